"""Constrained beams: what they return holds the words, and wide ones find the best that does."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.base import FinishReason, Task
from decoding.beam import Beam
from decoding.constrained_beam import ConstrainedBeam
from decoding.errors import InvalidParameter
from decoding.phrase_progress import PhraseTracker
from tests.decoding.toy_search import ToyModel, build_task, search


def spell(word: str) -> tuple[tuple[int, ...], ...]:
    """Words of these tests are digits, one a token: "12" is the tokens 1 and 2."""
    return (tuple(map(int, word)),)


def task_of(max_new_tokens: int, *end_tokens: int, stop=None) -> Task:
    return Task(
        max_new_tokens=max_new_tokens,
        seed=0,
        eos_token_ids=frozenset(end_tokens),
        stop=stop,
        phrases_of=spell,
    )


def holds(tokens: tuple[int, ...], words: tuple[str | tuple[str, ...], ...]) -> bool:
    text = "".join(map(str, tokens))
    return all(
        any(word in text for word in ((entry,) if isinstance(entry, str) else entry))
        for entry in words
    )


single = st.text("1234", min_size=1, max_size=3)
entries = st.one_of(single, st.lists(single, min_size=1, max_size=3).map(tuple))


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10_000),
    words=st.lists(entries, max_size=3).map(tuple),
    num_beams=st.integers(1, 4),
    spare=st.integers(0, 4),
    early_stopping=st.sampled_from([True, False, "never"]),
)
def test_every_answer_holds_every_word_even_where_they_barely_fit(
    seed, words, num_beams, spare, early_stopping
) -> None:
    strategy = ConstrainedBeam(
        num_beams=num_beams,
        num_return_sequences=num_beams,
        force_words=words,
        early_stopping=early_stopping,
    )
    shortest = sum(min(map(len, (e,) if isinstance(e, str) else e)) for e in words)
    model, task = ToyModel(seed), task_of(max(1, shortest + spare), 0)
    searched = search(model, strategy, task)
    assert searched.results
    for index, result in enumerate(searched.results):
        assert holds(result.token_ids, words)
        assert result.finish_reason in (FinishReason.EOS, FinishReason.LENGTH)
        assert sum(result.logprobs) == pytest.approx(model.logprob(result.token_ids))
        assert searched.streamed(index) == result.token_ids


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("words", [("12",), ("2", "1"), (("11", "22"),), ("11", ("2", "02"))])
def test_a_search_wide_enough_for_everything_finds_the_best_of_all_that_hold_them(
    seed, words
) -> None:
    model, length = ToyModel(seed, vocab_size=3), 4
    task = task_of(length, 0)
    fitting = [
        tokens
        for size in range(1, length + 1)
        for tokens in product(range(3), repeat=size)
        if 0 not in tokens[:-1] and (size == length or tokens[-1] == 0) and holds(tokens, words)
    ]
    scored = sorted(((model.logprob(t) / len(t), t) for t in fitting), reverse=True)
    strategy = ConstrainedBeam(
        num_beams=81, num_return_sequences=81, force_words=words, early_stopping="never"
    )
    results = search(model, strategy, task).results
    assert [each.token_ids for each in results] == [tokens for _, tokens in scored]
    assert [each.score for each in results] == pytest.approx([score for score, _ in scored])


@given(seed=st.integers(0, 1000))
def test_without_words_the_answer_scores_as_plain_beam_search(seed: int) -> None:
    model = ToyModel(seed)
    plain = search(model, Beam(num_beams=3), build_task(6, 0)).results[0]
    (ours,) = search(model, ConstrainedBeam(num_beams=3), task_of(6, 0)).results
    assert ours.score == pytest.approx(plain.score)


def test_a_stop_ends_only_what_holds_everything() -> None:
    def stop(generated_ids):
        return generated_ids[-1] == 4

    for seed in range(20):
        task = task_of(9, stop=stop)
        strategy = ConstrainedBeam(num_beams=3, num_return_sequences=3, force_words=("33",))
        for result in search(ToyModel(seed), strategy, task).results:
            assert holds(result.token_ids, ("33",))
            assert 4 not in result.token_ids[:-1]


def test_a_stop_that_comes_with_a_words_last_token_would_cut_it_and_is_passed_by() -> None:
    def stop(generated_ids):
        return generated_ids[-2:] == (1, 3) and len(generated_ids) < 4

    for seed in range(20):
        strategy = ConstrainedBeam(num_beams=3, num_return_sequences=3, force_words=("13",))
        for result in search(ToyModel(seed), strategy, task_of(6, stop=stop)).results:
            assert result.finish_reason is FinishReason.LENGTH
            assert holds(result.token_ids, ("13",))


def test_a_stop_that_no_word_can_escape_leaves_no_way() -> None:
    def stop(generated_ids):
        return generated_ids[-1] == 3

    strategy = ConstrainedBeam(num_beams=3, force_words=("13",))
    with pytest.raises(InvalidParameter, match="no way to them"):
        search(ToyModel(1), strategy, task_of(5, stop=stop))


def test_words_that_do_not_fit_are_refused_with_the_numbers() -> None:
    strategy = ConstrainedBeam(force_words=("1234", ("12", "123")))
    strategy.check_task(task_of(6))
    with pytest.raises(
        InvalidParameter, match="6 tokens one after the other, and there may be 5"
    ) as refused:
        strategy.check_task(task_of(5))
    assert refused.value.field == "force_words"


@pytest.mark.parametrize("words", [("",), ((),), (("1", ""),)])
def test_empty_words_are_refused(words) -> None:
    with pytest.raises(InvalidParameter, match="empty"):
        ConstrainedBeam(force_words=words)


def test_a_word_that_has_no_tokens_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="without tokens"):
        ConstrainedBeam(force_words=("1",)).check_task(build_task(5))


@settings(max_examples=200)
@given(
    constraints=st.lists(
        st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), min_size=1).map(
            tuple
        ),
        max_size=3,
    ),
    text=st.lists(st.integers(1, 4), max_size=8),
)
def test_a_way_on_never_takes_longer_than_was_said(constraints, text) -> None:
    """From every text some token of a phrase brings what is missing down by one."""
    tracker = PhraseTracker(constraints)
    progress, generated = tracker.start, []
    for token in text:
        generated.append(token)
        progress = tracker.after(progress, generated)
    while not progress.is_complete:
        reached = [tracker.after(progress, [*generated, t]) for t in tracker.token_ids]
        best = min(range(len(reached)), key=lambda at: reached[at].num_missing)
        assert reached[best].num_missing <= progress.num_missing - 1
        generated.append(tracker.token_ids[best])
        progress = reached[best]
    words = "".join(map(str, generated))
    for phrases in constraints:
        assert any("".join(map(str, phrase)) in words for phrase in phrases)
