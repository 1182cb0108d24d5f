"""Rows of keys and values: copied, and given back to the system when they are no longer needed."""

import numpy as np
import pytest

from engine.decoder_shape import DecoderShape
from engine.row_moves import RowCopy
from engine.row_store import RowStore

# A head's part of a row is two pages long, so that half of it can be given back.
SHAPE = DecoderShape(num_layers=2, num_kv_heads=2, head_dim=8, context_length=256)


@pytest.fixture
def store():
    store = RowStore(SHAPE, num_rows=4)
    for row in range(4):
        store.note_written(row, SHAPE.context_length)
    store.keys[:] = np.arange(4, dtype=np.float32)[None, :, None, None, None] + 1
    store.values[:] = -store.keys
    return store


def test_copies_take_the_leading_positions_of_all_layers_and_heads(store):
    store.copy([RowCopy(source=1, destination=3, length=10)])
    assert (store.keys[:, 3, :, :10] == 2).all()
    assert (store.keys[:, 3, :, 10:] == 4).all()
    assert (store.values[:, 3, :, :10] == -2).all()


def test_copies_are_made_in_order(store):
    store.copy([RowCopy(0, 1, 5), RowCopy(1, 2, 5)])
    assert (store.keys[:, 2, :, :5] == 1).all()


def test_a_range_of_rows_is_contiguous_within_a_layer(store):
    assert store.keys[1, 1:3].flags.c_contiguous


def test_nothing_is_given_back_while_the_bound_holds(store):
    store.trim({}, max_tokens=4 * SHAPE.context_length)
    assert (store.keys != 0).all()


def test_rows_that_are_not_needed_are_given_back_and_read_as_zero(store):
    store.trim({0: 256, 2: 128}, max_tokens=100)
    assert (store.keys[:, 0] == 1).all()
    assert (store.keys[:, 2, :, :128] == 3).all()
    assert (store.keys[:, 2, :, 128:] == 0).all()
    assert (store.keys[:, [1, 3]] == 0).all()
    assert (store.values[:, [1, 3]] == 0).all()


def test_what_was_given_back_is_not_counted_again(store):
    store.trim({0: 10}, max_tokens=100)
    store.keys[:, 3] = 9
    store.trim({0: 10}, max_tokens=100)  # row 3 was not noted as written since
    assert (store.keys[:, 3] == 9).all()


def test_bytes_of_a_token_count_keys_and_values_of_all_layers():
    assert SHAPE.bytes_per_token == 2 * 2 * 2 * 8 * 4
