"""A plan as tensors, against the same computed position by position."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.flat_batch import SHORTEST_CONTEXT, FlatBatch, Span, padded_length
from engine.kv_store import LayerShape
from tests.engine.flat_batches import PlacedBatch

SHAPE = LayerShape(1, 2, 2)
RANGES = [(0, 5), (9, 10), (3, 9), (40, 41), (0, 1), (11, 12), (8, 8 + 33)]


def _spans_by_token(batch: FlatBatch) -> dict[int, tuple[Span, int, int]]:
    """For each position in the flat batch: its span, row and query."""
    return {
        int(span.at[row, query]): (span, row, query)
        for span in batch.spans
        for row in range(span.at.shape[0])
        for query in range(span.at.shape[1])
    }


def test_tokens_positions_and_slots_follow_the_plan_row_by_row() -> None:
    placed = PlacedBatch(RANGES, shape=SHAPE)
    batch = placed.build()
    tokens, positions, slots = [], [], []
    for at, (start, end) in enumerate(RANGES):
        tokens += [100 * at + position for position in range(start, end)]
        positions += range(start, end)
        slots += placed.slots(at, start, end)
    assert batch.token_ids.tolist() == [tokens]
    assert batch.positions.tolist() == [positions]
    assert batch.slots.tolist() == slots


def test_logits_are_taken_at_the_last_token_of_rows_that_want_them() -> None:
    placed = PlacedBatch(RANGES, shape=SHAPE)
    ends = torch.tensor([end - start for start, end in RANGES]).cumsum(0) - 1
    wanting = [at for at, row in enumerate(placed.rows) if row.num_logits]
    assert placed.build().logits_at.tolist() == ends[wanting].tolist()


def test_every_token_is_in_one_span_with_its_own_position_and_context() -> None:
    placed = PlacedBatch(RANGES, shape=SHAPE)
    batch = placed.build()
    spans = _spans_by_token(batch)
    assert sorted(spans) == list(range(batch.slots.shape[0]))
    at = 0
    for row, (start, end) in enumerate(RANGES):
        for position in range(start, end):
            span, span_row, query = spans[at]
            assert span.positions[span_row, query] == position
            context = span.context[span_row].tolist()
            assert context[:end] == placed.slots(row, 0, end)
            assert set(context[end:]) <= {0}, "padding must point to the null block"
            at += 1


@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_mask_shows_the_past_within_the_window(window: int | None, groups: int) -> None:
    for span in PlacedBatch(RANGES, shape=SHAPE).build().spans:
        num_rows, num_queries = span.at.shape
        mask = span.mask(window, groups)
        assert mask.shape == (num_rows, 1, groups * num_queries, span.context.shape[1])
        for row in range(num_rows):
            for query in range(groups * num_queries):
                position = int(span.positions[row, query % num_queries])
                oldest = 0 if window is None else max(0, position - window + 1)
                seen = mask[row, 0, query].nonzero().flatten().tolist()
                assert seen == list(range(oldest, position + 1))


def test_layers_that_ask_the_same_share_a_mask() -> None:
    span = PlacedBatch(RANGES, shape=SHAPE).build().spans[0]
    assert span.mask(3, 2) is span.mask(3, 2)
    assert span.mask(3, 2) is not span.mask(None, 2)


def test_the_shape_of_a_rows_arithmetic_does_not_depend_on_its_neighbours() -> None:
    together = _spans_by_token(PlacedBatch(RANGES, shape=SHAPE).build())
    at = 0
    for start, end in RANGES:
        alone = PlacedBatch([(start, end)], shape=SHAPE).build().spans[0]
        span = together[at][0]
        assert span.context.shape[1] == alone.context.shape[1]
        assert span.at.shape[1] == alone.at.shape[1]
        if end - start > 1:
            assert span.at.shape[0] == 1, "a chunk is computed by itself"
        at += end - start


@given(length=st.integers(1, 200_000))
def test_padding_is_at_most_half_and_grows_with_the_length(length: int) -> None:
    padded = padded_length(length)
    assert length <= padded <= max(SHORTEST_CONTEXT, 2 * length)
    assert padded_length(padded) == padded
    assert padded_length(length + 1) >= padded


def test_padded_lengths_are_few() -> None:
    lengths = sorted({padded_length(length) for length in range(1, 200)})
    assert lengths == [32, 48, 64, 96, 128, 192, 256]
