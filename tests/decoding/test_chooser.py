"""One step for the whole batch: a row's candidates are those it gets alone, bit for bit."""

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decoding.adjuster import compile_adjustments
from decoding.adjustments import Adjustments
from decoding.ask import Ask, Best, Draw, MostLikely
from decoding.base import Candidate, Task
from decoding.chooser import RowAsk, find_candidates
from decoding.params import Processing
from tests.decoding.rows import FixedRow, random_logits

VOCAB_SIZE = 400
PLAIN = Processing()
PROCESSINGS = (
    PLAIN,
    Processing(temperature=0.7),
    Processing(top_k=5),
    Processing(top_p=0.8),
    Processing(min_p=0.1),
    Processing(temperature=1.3, top_k=50, top_p=0.95, min_p=0.01),
)
ASKS: tuple[Ask, ...] = (
    *(MostLikely(processing) for processing in PROCESSINGS),
    *(Draw(processing, seed=at) for at, processing in enumerate(PROCESSINGS)),
    *(Draw(processing, seed=at, count=3) for at, processing in enumerate(PROCESSINGS)),
    *(Best(processing, 4) for processing in PROCESSINGS),
    *(Best(processing, 9) for processing in PROCESSINGS),
)


def _row(at: int) -> FixedRow:
    return FixedRow(
        index=at % 3, prompt_ids=(at, at + 1), generated_ids=tuple(range(at % 7)), logprobs=()
    )


def _asked(asks: tuple[Ask, ...] | list[Ask]) -> list[RowAsk]:
    return [RowAsk(_row(at), ask) for at, ask in enumerate(asks)]


def _find_one(logits: Tensor, ask: Ask, row: FixedRow | None = None) -> tuple[Candidate, ...]:
    (found,) = find_candidates(logits, [RowAsk(row or _row(0), ask)])
    return found


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_mixed_batch_gives_each_row_what_it_gets_alone() -> None:
    logits = random_logits(len(ASKS), VOCAB_SIZE)
    asked = _asked(ASKS)
    together = find_candidates(logits, asked)
    for at, entry in enumerate(asked):
        assert together[at] == find_candidates(logits[at : at + 1], [entry])[0]


@pytest.mark.usefixtures("_two_threads")
def test_a_mixed_batch_over_a_large_vocabulary_gives_each_row_what_it_gets_alone() -> None:
    asked = _asked([MostLikely(PLAIN), Best(PLAIN, 2), Draw(PLAIN, seed=0)] * 8)
    logits = random_logits(len(asked), 50_257)
    together = find_candidates(logits, asked)
    differing = [
        at
        for at, entry in enumerate(asked)
        if together[at] != find_candidates(logits[at : at + 1], [entry])[0]
    ]
    assert differing == []


@settings(max_examples=40)
@given(picked=st.lists(st.integers(0, len(ASKS) - 1), min_size=1, max_size=12))
def test_neighbours_in_any_number_and_order_change_nothing(picked: list[int]) -> None:
    logits = random_logits(len(ASKS), VOCAB_SIZE)
    asked = _asked(ASKS)
    found = find_candidates(logits[picked], [asked[at] for at in picked])
    for at, candidates in zip(picked, found, strict=True):
        assert candidates == _find_one(logits[at : at + 1], ASKS[at], _row(at))


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = random_logits(len(ASKS), VOCAB_SIZE).bfloat16()
    assert find_candidates(logits, _asked(ASKS)) == find_candidates(logits.float(), _asked(ASKS))


def test_the_logits_are_left_as_they_were() -> None:
    logits = random_logits(len(ASKS), VOCAB_SIZE)
    before = logits.clone()
    find_candidates(logits, _asked(ASKS))
    assert torch.equal(logits, before)


def test_the_most_likely_token_comes_with_its_log_probability() -> None:
    logits = random_logits(1, VOCAB_SIZE)
    (found,) = _find_one(logits, MostLikely(PLAIN))
    assert found.token_id == logits.argmax()
    expected = torch.log_softmax(logits.double(), 1)[0, found.token_id].item()
    assert found.logprob == pytest.approx(expected, abs=1e-5)


def test_the_best_are_ranked_by_processed_log_probability() -> None:
    logits = random_logits(1, VOCAB_SIZE)
    row = FixedRow(prompt_ids=tuple(logits[0].topk(3).indices.tolist()))
    adjuster = compile_adjustments(
        Adjustments(repetition_penalty=3.0), Task(max_new_tokens=5, seed=0)
    )
    (found,) = find_candidates(logits, [RowAsk(row, Best(PLAIN, 8), adjuster)])
    scores = [candidate.score for candidate in found]
    assert scores == sorted(scores, reverse=True)
    logprobs = torch.log_softmax(logits.double(), 1)[0]
    for candidate in found:
        plain = logprobs[candidate.token_id].item()
        assert candidate.logprob == pytest.approx(plain, abs=1e-5), "before any processing"
        factor = 3.0 if candidate.token_id in row.token_ids else 1.0
        assert candidate.score == pytest.approx(plain * factor, abs=1e-4)


def test_no_more_of_the_best_than_there_are_tokens() -> None:
    found = _find_one(random_logits(1, 5), Best(PLAIN, 9))
    assert sorted(candidate.token_id for candidate in found) == [0, 1, 2, 3, 4]


def test_a_drawn_token_reports_the_models_log_probability_not_the_processed_one() -> None:
    logits = random_logits(1, VOCAB_SIZE)
    (found,) = _find_one(logits, Draw(Processing(top_k=1, temperature=0.1), seed=0))
    expected = torch.log_softmax(logits.double(), 1).max().item()
    assert found.logprob == pytest.approx(expected, abs=1e-5)


def test_draws_of_one_row_are_those_of_as_many_sequences() -> None:
    logits = random_logits(1, VOCAB_SIZE)
    together = _find_one(logits, Draw(PLAIN, seed=5, count=4), FixedRow(index=0))
    for index in range(4):
        alone = _find_one(logits, Draw(PLAIN, seed=5), FixedRow(index=index))
        assert alone == together[index : index + 1]


def test_a_draw_depends_on_seed_index_and_position() -> None:
    logits = random_logits(1, 100_000, spread=0.1)
    row = FixedRow(index=1, generated_ids=(4,))
    drawn = {
        _find_one(logits, Draw(PLAIN, seed=5), row),
        _find_one(logits, Draw(PLAIN, seed=6), row),
        _find_one(logits, Draw(PLAIN, seed=5), FixedRow(index=2, generated_ids=(4,))),
        _find_one(logits, Draw(PLAIN, seed=5), FixedRow(index=1, generated_ids=(4, 4))),
    }
    assert len(drawn) == 4


@pytest.mark.parametrize("ask", [MostLikely(PLAIN), Draw(PLAIN, seed=0, count=2), Best(PLAIN, 3)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=["NaN", "inf", "-inf"])
def test_a_row_without_finite_logits_gets_no_candidates_and_its_neighbours_do(
    ask: Ask, value: float
) -> None:
    logits = random_logits(3, VOCAB_SIZE)
    expected = find_candidates(logits, _asked([ask] * 3))
    logits[1] = value
    assert find_candidates(logits, _asked([ask] * 3)) == [expected[0], (), expected[2]]


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["NaN", "inf"])
def test_one_bad_logit_is_enough_to_give_no_candidates(value: float) -> None:
    logits = random_logits(1, VOCAB_SIZE)
    logits[0, 7] = value
    assert _find_one(logits, MostLikely(PLAIN)) == ()


def test_tokens_that_a_model_rules_out_are_never_taken() -> None:
    logits = torch.full((1, VOCAB_SIZE), -torch.inf)
    logits[0, 30] = 2.0
    for ask in (MostLikely(PLAIN), Draw(PROCESSINGS[-1], seed=3, count=5)):
        found = _find_one(logits, ask)
        assert {(each.token_id, each.logprob) for each in found} == {(30, 0.0)}


@pytest.mark.parametrize(
    "ask",
    [
        Draw(Processing(temperature=1e-40), seed=0),
        MostLikely(Processing(temperature=1e-40)),
    ],
)
def test_scores_that_processing_makes_infinite_give_no_candidates(ask: Ask) -> None:
    logits = random_logits(3, VOCAB_SIZE).abs()
    expected = find_candidates(logits, _asked([ASKS[0], ASKS[7], ASKS[0]]))
    found = find_candidates(logits, _asked([ASKS[0], ask, ASKS[0]]))
    assert found == [expected[0], (), expected[2]]


@pytest.mark.parametrize("count", [0, -1])
def test_an_ask_for_less_than_one_candidate_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Draw(PLAIN, seed=0, count=count)
    with pytest.raises(ValueError, match="at least one"):
        Best(PLAIN, count)
