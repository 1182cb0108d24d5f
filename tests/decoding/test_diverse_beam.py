"""Diverse beams against the rules spelled out, with nothing remembered but sequences."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.base import Task
from decoding.beam import Beam
from decoding.diverse_beam import DiverseBeam
from decoding.errors import InvalidParameter
from tests.decoding.toy_search import ToyModel, build_task, search

Scored = tuple[float, tuple[int, ...]]


class Group:
    """One group of the reference: live sequences with their scores, and finished ones."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.live: list[Scored] = [(0.0, ())]
        self.done: list[Scored] = []

    def advance(self, model: ToyModel, beam: DiverseBeam, task: Task, chosen: Counter[int]) -> None:
        reached = [
            (score + logprob - beam.diversity_penalty * chosen[token], (*tokens, token))
            for score, tokens in self.live
            for token, logprob in enumerate(model.logprobs(tokens))
        ]
        reached.sort(key=lambda each: each[0], reverse=True)
        reached = reached[: self.width * max(2, 1 + len(task.eos_token_ids))]
        for score, tokens in reached[: self.width]:
            if has_ended(tokens, task):
                self.done.append((score / len(tokens) ** beam.length_penalty, tokens))
        self.done = sorted(self.done, reverse=True)[: self.width]
        self.live = [each for each in reached if not has_ended(each[1], task)][: self.width]
        if self.live and len(self.done) == self.width and self.is_settled(beam, task):
            self.live = []

    def is_settled(self, beam: DiverseBeam, task: Task) -> bool:
        if beam.early_stopping is True:
            return True
        score, tokens = self.live[0]
        looks_ahead = beam.early_stopping == "never" and beam.length_penalty > 0
        length = task.max_new_tokens if looks_ahead else len(tokens)
        return score / length**beam.length_penalty <= self.done[-1][0]


def has_ended(tokens: tuple[int, ...], task: Task) -> bool:
    return tokens[-1] in task.eos_token_ids or len(tokens) == task.max_new_tokens


def search_by_the_rules(model: ToyModel, beam: DiverseBeam, task: Task) -> list[Scored]:
    groups = [Group(beam.num_beams // beam.num_beam_groups) for _ in range(beam.num_beam_groups)]
    while any(group.live for group in groups):
        chosen: Counter[int] = Counter()
        for group in groups:
            if group.live:
                group.advance(model, beam, task, chosen)
                chosen.update(tokens[-1] for _, tokens in group.live)
    done = sorted((each for group in groups for each in group.done), key=lambda each: -each[0])
    return done[: beam.num_return_sequences]


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    num_groups=st.integers(1, 4),
    width=st.integers(1, 3),
    penalty=st.sampled_from([0.0, 0.3, 1.0, 20.0]),
    length_penalty=st.sampled_from([0.0, 1.0, 2.0, -1.0]),
    early_stopping=st.sampled_from([True, False, "never"]),
    end_tokens=st.sets(st.integers(0, 4), max_size=2),
    max_new_tokens=st.integers(1, 7),
)
def test_the_rules_are_followed(
    seed, num_groups, width, penalty, length_penalty, early_stopping, end_tokens, max_new_tokens
) -> None:
    beam = DiverseBeam(
        num_beams=num_groups * width,
        num_beam_groups=num_groups,
        num_return_sequences=num_groups * width,
        diversity_penalty=penalty,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    model, task = ToyModel(seed, vocab_size=8), build_task(max_new_tokens, *end_tokens)
    searched = search(model, beam, task)
    expected = search_by_the_rules(model, beam, task)
    assert [each.score for each in searched.results] == pytest.approx([s for s, _ in expected])
    assert Counter(each.token_ids for each in searched.results) == Counter(t for _, t in expected)
    for index, result in enumerate(searched.results):
        assert searched.streamed(index) == result.token_ids
        assert sum(result.logprobs) == pytest.approx(model.logprob(result.token_ids))


@given(seed=st.integers(0, 1000))
def test_one_group_is_plain_beam_search(seed: int) -> None:
    model, task = ToyModel(seed), build_task(6, 0)
    ours = search(model, DiverseBeam(num_beams=3, num_beam_groups=1), task).results
    assert ours == search(model, Beam(num_beams=3), task).results


def test_a_high_penalty_makes_every_group_begin_differently() -> None:
    beam = DiverseBeam(
        num_beams=4, num_beam_groups=4, num_return_sequences=4, diversity_penalty=100.0
    )
    for seed in range(20):
        results = search(ToyModel(seed), beam, build_task(4)).results
        assert len({result.token_ids[0] for result in results}) == 4


def test_one_sequence_is_streamed_before_the_end() -> None:
    beam = DiverseBeam(num_beams=2, num_beam_groups=2, diversity_penalty=0.01)
    early = [
        search(ToyModel(seed, spread=6.0), beam, build_task(8)).streamed(before_end=True)
        for seed in range(20)
    ]
    assert any(early)


def test_groups_of_different_sizes_are_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="5 beams do not form 2 groups") as refused:
        DiverseBeam(num_beams=5)
    assert refused.value.field == "num_beam_groups"
