"""Beam search against two searches written independently: all sequences, and the rules spelled out.

The model is a table of random log-probabilities for every beginning, so nothing but the search
is tested; that its rules are those of transformers is for the oracle suite to show.
"""

from collections.abc import Sequence
from itertools import product
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.base import FinishReason, Task
from decoding.beam import Beam
from decoding.params import Processing
from tests.decoding.toy_search import ToyModel, build_task, search

EarlyStopping = bool | Literal["never"]
EARLY_STOPPING: tuple[EarlyStopping, ...] = (False, True, "never")
PENALTIES = (0.0, 1.0, 0.5, 2.0, -1.0)


def _all_sequences(model: ToyModel, task: Task) -> list[tuple[int, ...]]:
    """Every sequence that ends, by an end token or by its length."""
    return [
        tokens
        for length in range(1, task.max_new_tokens + 1)
        for tokens in product(range(model.vocab_size), repeat=length)
        if task.eos_token_ids.isdisjoint(tokens[:-1])
        and (length == task.max_new_tokens or tokens[-1] in task.eos_token_ids)
    ]


def _search_by_the_rules(
    model: ToyModel, beam: Beam, task: Task
) -> list[tuple[float, tuple[int, ...]]]:
    """Scores and sequences found by the rules, with nothing remembered but sequences."""
    width, penalty = beam.num_beams, beam.length_penalty
    live: list[tuple[int, ...]] = [()]
    done: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, task.max_new_tokens + 1):
        extended = [(*tokens, token) for tokens in live for token in range(model.vocab_size)]
        extended.sort(key=model.logprob, reverse=True)
        extended = extended[: width * max(2, 1 + len(task.eos_token_ids))]
        ended = [
            length == task.max_new_tokens or tokens[-1] in task.eos_token_ids for tokens in extended
        ]
        for tokens, has_ended in zip(extended[:width], ended, strict=False):
            if has_ended:
                done.append((model.logprob(tokens) / length**penalty, tokens))
        done = sorted(done, reverse=True)[:width]
        live = [t for t, has_ended in zip(extended, ended, strict=True) if not has_ended][:width]
        if len(done) == width and (not live or _is_settled(model, beam, task, live[0], done[-1])):
            break
    return done[: beam.num_return_sequences]


def _is_settled(
    model: ToyModel,
    beam: Beam,
    task: Task,
    best_live: tuple[int, ...],
    worst_done: tuple[float, tuple[int, ...]],
) -> bool:
    if beam.early_stopping is True:
        return True
    looks_ahead = beam.early_stopping == "never" and beam.length_penalty > 0
    length = task.max_new_tokens if looks_ahead else len(best_live)
    return model.logprob(best_live) / length**beam.length_penalty <= worst_done[0]


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("seed", range(4))
def test_a_search_wide_enough_for_everything_finds_the_best_of_all_sequences(
    penalty: float, early_stopping: EarlyStopping, seed: int
) -> None:
    model, task = ToyModel(seed, vocab_size=3), build_task(3, 0)
    sequences = _all_sequences(model, task)
    beam = Beam(
        num_beams=len(sequences),
        num_return_sequences=len(sequences),
        length_penalty=penalty,
        early_stopping=early_stopping,
    )
    scored = sorted(
        ((model.logprob(tokens) / len(tokens) ** penalty, tokens) for tokens in sequences),
        reverse=True,
    )
    results = search(model, beam, task).results
    assert [each.token_ids for each in results] == [tokens for _, tokens in scored]
    assert [each.score for each in results] == pytest.approx([score for score, _ in scored])


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    num_beams=st.integers(1, 4),
    penalty=st.sampled_from(PENALTIES),
    early_stopping=st.sampled_from(EARLY_STOPPING),
    end_tokens=st.sets(st.integers(0, 4), max_size=3),
    max_new_tokens=st.integers(1, 7),
)
def test_a_narrow_search_follows_the_rules(
    seed: int,
    num_beams: int,
    penalty: float,
    early_stopping: EarlyStopping,
    end_tokens: set[int],
    max_new_tokens: int,
) -> None:
    model, task = ToyModel(seed), build_task(max_new_tokens, *end_tokens)
    beam = Beam(
        num_beams=num_beams,
        length_penalty=penalty,
        early_stopping=early_stopping,
        num_return_sequences=num_beams,
    )
    results = search(model, beam, task).results
    expected = _search_by_the_rules(model, beam, task)
    assert [each.token_ids for each in results] == [tokens for _, tokens in expected]
    assert [each.score for each in results] == pytest.approx([score for score, _ in expected])
    for result in results:
        ended = result.token_ids[-1] in end_tokens
        assert result.finish_reason is (FinishReason.EOS if ended else FinishReason.LENGTH)
        assert sum(result.logprobs) == pytest.approx(model.logprob(result.token_ids))


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_rules_hold_for_every_way_to_stop(
    early_stopping: EarlyStopping, penalty: float
) -> None:
    for seed in range(25):
        model, task = ToyModel(seed, spread=2.5), build_task(10, 0)
        beam = Beam(num_beams=2, length_penalty=penalty, early_stopping=early_stopping)
        (result,) = search(model, beam, task).results
        assert result.token_ids == _search_by_the_rules(model, beam, task)[0][1]


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    num_beams=st.integers(1, 4),
    num_returned=st.integers(1, 4),
    spread=st.sampled_from([1.0, 6.0]),
)
def test_what_was_streamed_is_never_taken_back(
    seed: int, num_beams: int, num_returned: int, spread: float
) -> None:
    model = ToyModel(seed, spread=spread)
    beam = Beam(num_beams=num_beams, num_return_sequences=min(num_beams, num_returned))
    searched = search(model, beam, build_task(8, 0))
    for index, result in enumerate(searched.results):
        assert searched.streamed(index) == result.token_ids
    emissions = [each for decision in searched.decisions for each in decision.emissions]
    assert all(len(each.token_ids) == len(each.logprobs) > 0 for each in emissions)
    logprobs = [each for e in emissions if e.index == 0 for each in e.logprobs]
    assert tuple(logprobs) == searched.results[0].logprobs


def test_tokens_that_all_beams_share_are_streamed_before_the_end() -> None:
    lengths = {
        len(search(ToyModel(seed, spread=6.0), Beam(), build_task(20)).streamed(before_end=True))
        for seed in range(10)
    }
    assert max(lengths) >= 10


def test_nothing_is_streamed_before_the_end_when_several_sequences_are_asked_for() -> None:
    searched = search(ToyModel(1, spread=6.0), Beam(num_return_sequences=2), build_task(20))
    assert searched.streamed(before_end=True) == ()


def test_one_beam_without_end_tokens_is_greedy() -> None:
    model = ToyModel(3)
    (result,) = search(model, Beam(num_beams=1), build_task(9)).results
    greedy: tuple[int, ...] = ()
    for _ in range(9):
        logprobs = model.logprobs(greedy)
        greedy = (*greedy, logprobs.index(max(logprobs)))
    assert result.token_ids == greedy


def test_more_beams_never_find_a_worse_best_sequence_in_the_end() -> None:
    scores = [
        [
            search(ToyModel(seed), Beam(num_beams=width), build_task(6)).results[0].score
            for seed in range(30)
        ]
        for width in (1, 16)
    ]
    assert all(wide >= narrow - 1e-12 for narrow, wide in zip(*scores, strict=True))
    assert scores[0] != scores[1]


def test_a_length_penalty_above_zero_favours_longer_sequences() -> None:
    lengths = {
        penalty: sum(
            len(search(ToyModel(seed), _wide(penalty), build_task(6, 0)).results[0].token_ids)
            for seed in range(20)
        )
        for penalty in (-2.0, 0.0, 2.0)
    }
    assert lengths[-2.0] < lengths[0.0] < lengths[2.0]


def _wide(penalty: float) -> Beam:
    return Beam(num_beams=8, length_penalty=penalty)


def test_each_kind_of_early_stopping_stops_at_another_time() -> None:
    num_steps = {
        early_stopping: sum(
            len(search(ToyModel(seed), _early(early_stopping), build_task(12, 0, 1)).decisions)
            for seed in range(20)
        )
        for early_stopping in EARLY_STOPPING
    }
    assert num_steps[True] < num_steps[False] < num_steps["never"]


def _early(early_stopping: EarlyStopping) -> Beam:
    return Beam(num_beams=3, early_stopping=early_stopping)


def test_the_ask_holds_enough_candidates_for_every_beam_to_meet_every_end_token() -> None:
    beam = Beam(num_beams=3)
    assert beam.start(build_task(5)).ask.count == 6
    assert beam.start(build_task(5, 1)).ask.count == 6
    assert beam.start(build_task(5, 1, 2, 3)).ask.count == 12
    assert beam.start(build_task(5)).ask.processing == Processing()


def _always(_: Sequence[int]) -> bool:
    return True


def test_a_search_whose_every_beam_stops_at_once_ends_at_once() -> None:
    searched = search(
        ToyModel(2), Beam(num_beams=2, num_return_sequences=2), build_task(9, stop=_always)
    )
    assert len(searched.decisions) == 1
    assert [each.finish_reason for each in searched.results] == [FinishReason.STOP] * 2


def test_a_stop_ends_one_beam_and_the_others_go_on() -> None:
    model = ToyModel(4)
    first = model.logprobs(()).index(max(model.logprobs(())))

    def stop(generated_ids: Sequence[int]) -> bool:
        return generated_ids[-1] == first

    beam = Beam(num_beams=3, num_return_sequences=3, length_penalty=0.0, early_stopping="never")
    results = search(model, beam, build_task(4, stop=stop)).results
    reasons = {each.token_ids: each.finish_reason for each in results}
    assert reasons[first,] is FinishReason.STOP
    assert all(first not in tokens[:-1] for tokens in reasons)


def test_live_rows_are_ranked_by_their_index() -> None:
    searched = search(ToyModel(5), Beam(num_beams=4), build_task(6))
    for decision in searched.decisions[:-1]:
        assert [each.index for each in decision.live] == [0, 1, 2, 3]


def test_a_vocabulary_smaller_than_the_search_still_gives_every_sequence_asked_for() -> None:
    beam = Beam(num_beams=4, num_return_sequences=4)
    results = search(ToyModel(6, vocab_size=2), beam, build_task(2)).results
    assert len({each.token_ids for each in results}) == 4
