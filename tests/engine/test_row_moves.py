"""Pending row contents are carried out so that nothing is overwritten before it is read."""

import hypothesis.strategies as st
from hypothesis import given

from engine.row_moves import RowMoves

NUM_ROWS = 6
SPARE = NUM_ROWS
LENGTH = 10

rows = st.integers(0, NUM_ROWS - 1)
moves = st.one_of(
    st.tuples(st.just("move"), rows, rows),
    st.tuples(st.just("swap"), rows, rows),
)


def carry_out(copies, contents):
    for copy in copies:
        contents[copy.destination] = contents[copy.source]


@given(st.lists(moves, max_size=12))
def test_copies_give_what_the_moves_one_by_one_would(steps):
    pending = RowMoves(spare_row=SPARE)
    expected = [f"content {row}" for row in range(NUM_ROWS)]
    for kind, one, other in steps:
        if one == other:
            continue
        if kind == "move":
            pending.move(one, other, LENGTH)
            expected[other] = expected[one]
        else:
            pending.swap(one, other, (LENGTH, LENGTH))
            expected[one], expected[other] = expected[other], expected[one]
    contents = [f"content {row}" for row in range(NUM_ROWS)] + ["spare"]
    carry_out(pending.take(), contents)
    assert contents[:NUM_ROWS] == expected
    assert pending.take() == []


def test_moves_that_cancel_cost_nothing():
    pending = RowMoves(spare_row=SPARE)
    pending.swap(0, 1, (LENGTH, LENGTH))
    pending.swap(0, 1, (LENGTH, LENGTH))
    assert pending.take() == []


def test_a_chain_of_moves_copies_once_and_no_more_than_is_needed():
    pending = RowMoves(spare_row=SPARE)
    pending.move(0, 4, 8)
    pending.move(4, 3, 5)
    pending.forget(4)
    (copy,) = pending.take()
    assert (copy.source, copy.destination, copy.length) == (0, 3, 5)
