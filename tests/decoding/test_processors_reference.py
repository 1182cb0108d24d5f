"""Processors against those of `transformers`, row by row, and rows together against rows alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decoding.ask import Ask, Best, Draw, MostLikely
from decoding.chooser import RowAsk, find_candidates
from decoding.params import Processing
from decoding.processors.chain import Filtering, apply_filters
from tests.oracle.distribution import process_by_transformers

VOCAB_SIZE = 1000
SPREADS = (0.01, 1.0, 3.0, 20.0)  # from nearly flat, where a nucleus is most of the vocabulary
TOLERANCE = 2e-6  # of a logit: top-p and min-p compare sums that are rounded differently

PROCESSINGS = (
    Processing(),
    Processing(temperature=0.3),
    Processing(temperature=12.5),
    Processing(top_k=1),
    Processing(top_k=50),
    Processing(top_k=VOCAB_SIZE + 1),
    Processing(top_p=0.001),
    Processing(top_p=0.5),
    Processing(top_p=0.999),
    Processing(min_p=0.05),
    Processing(min_p=1.0),
    Processing(typical_p=0.2),
    Processing(typical_p=0.95),
    Processing(epsilon_cutoff=0.0005),
    Processing(epsilon_cutoff=0.3),
    Processing(eta_cutoff=0.0005),
    Processing(eta_cutoff=0.3),
    Processing(top_h=0.3),
    Processing(top_h=0.9),
    Processing(temperature=0.7, top_k=40, top_p=0.9, min_p=0.02),
    Processing(temperature=1.9, top_p=0.95, min_p=0.3, typical_p=0.9),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A `DecodingRow` of fixed contents."""

    index: int
    token_ids: Sequence[int]
    generated_ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()


def _reference(scores: Tensor, row: Row, processing: Processing) -> Tensor:
    """The scores of one row after the processors of `transformers`, [vocab]."""
    return process_by_transformers(scores, row.token_ids, asdict(processing))


def _process(scores: Tensor, asked: Sequence[Processing]) -> Tensor:
    return apply_filters(scores, [Filtering(processing) for processing in asked])


def _scores(seed: int, num_rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_rows, VOCAB_SIZE, generator=generator)
    spreads = torch.tensor([SPREADS[(seed + at) % len(SPREADS)] for at in range(num_rows)])
    return scores * spreads[:, None]


def _rows(seed: int, num_rows: int) -> list[Row]:
    """Rows of different lengths; tokens repeat within a row."""
    generator = torch.Generator().manual_seed(seed + 1)
    lengths = torch.randint(1, 60, (num_rows,), generator=generator).tolist()
    return [
        Row(at, torch.randint(0, VOCAB_SIZE, (length,), generator=generator).tolist() * 2)
        for at, length in enumerate(lengths)
    ]


def _is_same(ours: Tensor, reference: Tensor) -> bool:
    """Same scores; where one side dropped a token, the other did too."""
    return torch.equal(ours.isinf(), reference.isinf()) and torch.allclose(
        ours, reference, rtol=TOLERANCE, atol=TOLERANCE
    )


@pytest.mark.parametrize("processing", PROCESSINGS, ids=str)
def test_each_processing_gives_what_transformers_gives(processing: Processing) -> None:
    for seed in range(len(SPREADS) * 5):
        scores, rows = _scores(seed, 1), _rows(seed, 1)
        ours = _process(scores, [processing])
        assert _is_same(ours[0], _reference(scores[0], rows[0], processing)), f"seed {seed}"


def test_rows_of_different_processing_give_what_transformers_gives_each_alone() -> None:
    for seed in range(10):
        scores, rows = _scores(seed, len(PROCESSINGS)), _rows(seed, len(PROCESSINGS))
        ours = _process(scores, PROCESSINGS)
        for at, processing in enumerate(PROCESSINGS):
            reference = _reference(scores[at], rows[at], processing)
            assert _is_same(ours[at], reference), f"seed {seed}, {processing}"


def test_banned_tokens_stay_banned_and_move_no_other_token() -> None:
    scores, rows = _scores(2, len(PROCESSINGS)), _rows(2, len(PROCESSINGS))
    scores[:, ::3] = -torch.inf
    ours = _process(scores, PROCESSINGS)
    assert ours[:, ::3].isneginf().all()
    for at, processing in enumerate(PROCESSINGS):
        assert _is_same(ours[at], _reference(scores[at], rows[at], processing)), processing


def test_processing_leaves_its_input_as_it_was() -> None:
    scores = _scores(3, len(PROCESSINGS))
    before = scores.clone()
    _process(scores, PROCESSINGS)
    assert torch.equal(scores, before)


processings = st.builds(
    Processing,
    temperature=st.sampled_from([1.0, 0.01, 0.5, 1.5, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 50, 999, 1_000_000]),
    top_p=st.sampled_from([1.0, 1e-9, 0.1, 0.9, 0.9999]),
    min_p=st.sampled_from([0.0, 1e-6, 0.1, 1.0]),
    typical_p=st.sampled_from([1.0, 1.0, 0.3, 0.95]),
    epsilon_cutoff=st.sampled_from([0.0, 0.0, 0.001]),
    eta_cutoff=st.sampled_from([0.0, 0.0, 0.01]),
    top_h=st.sampled_from([1.0, 1.0, 0.4]),
    top_n_sigma=st.sampled_from([0.0, 0.0, 0.5, 2.0]),
    dynatemp_range=st.sampled_from([0.0, 0.0, 0.4]),
    xtc_probability=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    mirostat=st.sampled_from([0, 0, 1, 2]),
    mirostat_mu=st.sampled_from([0.1, 3.0, 9.0]),
    samplers=st.sampled_from([None, None, ("top_p", "temperature"), ("xtc", "top_k", "min_p")]),
)
asks = st.one_of(
    st.builds(MostLikely, processings),
    st.builds(Draw, processings, st.integers(0, 2**64 - 1), st.integers(1, 4)),
    st.builds(Best, processings, st.sampled_from([1, 3, 8])),
)


@settings(max_examples=60)
@given(batch=st.lists(processings, min_size=2, max_size=12), seed=st.integers(0, 1000))
def test_a_row_is_processed_the_same_alone_and_in_a_batch(
    batch: list[Processing], seed: int
) -> None:
    scores = _scores(seed, len(batch))
    together = _process(scores, batch)
    for at, processing in enumerate(batch):
        alone = _process(scores[at : at + 1], [processing])
        assert torch.equal(together[at], alone[0]), processing


@settings(max_examples=60)
@given(batch=st.lists(asks, min_size=2, max_size=12), seed=st.integers(0, 1000))
def test_a_row_finds_the_same_candidates_alone_and_in_a_batch(batch: list[Ask], seed: int) -> None:
    logits, rows = _scores(seed, len(batch)), _rows(seed, len(batch))
    together = find_candidates(logits, [RowAsk(*pair) for pair in zip(rows, batch, strict=True)])
    for at, ask in enumerate(batch):
        alone = find_candidates(logits[at : at + 1], [RowAsk(rows[at], ask)])
        assert together[at] == alone[0], ask


@settings(max_examples=30)
@given(batch=st.lists(asks, min_size=2, max_size=8), seed=st.integers(0, 1000))
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_row_with_broken_logits_finds_nothing_and_its_neighbours_what_they_find_alone(
    batch: list[Ask], seed: int, poison: float
) -> None:
    logits, rows = _scores(seed, len(batch)), _rows(seed, len(batch))
    asked = [RowAsk(*pair) for pair in zip(rows, batch, strict=True)]
    healthy = find_candidates(logits, asked)
    logits[0, 7] = poison
    assert find_candidates(logits, asked) == [(), *healthy[1:]]


def test_a_draw_never_takes_a_dropped_token() -> None:
    scores, rows = _scores(5, len(PROCESSINGS)), _rows(5, len(PROCESSINGS))
    kept = ~_process(scores, PROCESSINGS).isneginf()
    asked = [
        RowAsk(row, Draw(processing, seed=11, count=500))
        for row, processing in zip(rows, PROCESSINGS, strict=True)
    ]
    for at, candidates in enumerate(find_candidates(scores, asked)):
        assert all(kept[at, candidate.token_id] for candidate in candidates), PROCESSINGS[at]


def test_log_probabilities_are_the_models_own_and_scores_the_processed_ones() -> None:
    logits, rows = _scores(6, 1), _rows(6, 1)
    processing = Processing(temperature=1.5)
    (candidates,) = find_candidates(logits, [RowAsk(rows[0], Best(processing, 20))])
    logprobs = torch.log_softmax(logits[0], dim=0)
    processed = _reference(logprobs, rows[0], processing)
    for candidate in candidates:
        assert candidate.logprob == pytest.approx(logprobs[candidate.token_id].item(), abs=1e-5)
        assert candidate.score == pytest.approx(processed[candidate.token_id].item(), abs=1e-5)
    assert [candidate.token_id for candidate in candidates] == processed.topk(20).indices.tolist()
