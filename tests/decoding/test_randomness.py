"""Numbers without state: in range, even, and unrelated whichever argument changes."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from decoding.randomness import uniform

LARGEST = 2**64 - 1
SIGNIFICANCE = 1e-4
integers = st.integers(0, LARGEST)


@given(seed=integers, index=integers, position=integers)
def test_a_number_lies_in_range_and_is_the_same_each_time(
    seed: int, index: int, position: int
) -> None:
    number = uniform(seed, index, position)
    assert 0.0 <= number < 1.0
    assert number * 2**53 == math.floor(number * 2**53), "53 random bits"
    assert number == uniform(seed, index, position)


def test_the_largest_arguments_are_accepted_and_larger_or_smaller_ones_are_not() -> None:
    assert 0.0 <= uniform(LARGEST, LARGEST, LARGEST) < 1.0
    for arguments in [(-1, 0, 0), (LARGEST + 1, 0, 0), (0, -1, 0)]:
        with pytest.raises(struct.error):
            uniform(*arguments)


def test_arguments_do_not_stand_in_for_each_other() -> None:
    numbers = {uniform(a, b, c) for a in range(12) for b in range(12) for c in range(12)}
    assert len(numbers) == 12**3


@pytest.mark.parametrize("varied", [0, 1, 2], ids=["seed", "index", "position"])
def test_numbers_are_even_whichever_argument_varies(varied: int) -> None:
    counts = [0] * 64
    for value in range(20_000):
        arguments = [7, 3, 11]
        arguments[varied] = value
        counts[int(uniform(*arguments) * 64)] += 1
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("varied", [0, 1, 2], ids=["seed", "index", "position"])
def test_neighbouring_arguments_give_unrelated_numbers(varied: int) -> None:
    counts = [[0] * 8 for _ in range(8)]
    for value in range(10_000):
        first, second = [5, 2, value], [5, 2, value]
        second[varied] += 1
        counts[int(uniform(*first) * 8)][int(uniform(*second) * 8)] += 1
    assert stats.chi2_contingency(counts).pvalue > SIGNIFICANCE
