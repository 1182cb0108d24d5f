"""Inverse CDF at its edges: a number picks the token whose share of the line it falls on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.draw import draw_tokens
from tests.decoding.rows import random_logits

JUST_BELOW_ONE = math.nextafter(1.0, 0.0)
NEVER = -math.inf


def _draw(scores: list[float], number: float) -> int:
    return draw_tokens(torch.tensor([scores]), [[number]]).token_ids.item()


@pytest.mark.parametrize(
    ("number", "token"),
    [(0.0, 0), (0.24, 0), (0.26, 1), (0.74, 1), (0.76, 2), (JUST_BELOW_ONE, 2)],
)
def test_a_number_picks_the_token_it_falls_on(number: float, token: int) -> None:
    assert _draw([math.log(0.25), math.log(0.5), math.log(0.25)], number) == token


def test_the_smallest_number_skips_tokens_without_probability() -> None:
    assert _draw([NEVER, NEVER, 0.0, 1.0], 0.0) == 2


def test_the_largest_number_skips_tokens_without_probability() -> None:
    assert _draw([0.0, 1.0, NEVER, NEVER], JUST_BELOW_ONE) == 1


@pytest.mark.parametrize("number", [0.0, 0.5, JUST_BELOW_ONE])
def test_a_token_that_has_all_probability_is_always_drawn(number: float) -> None:
    assert _draw([NEVER, 3.0, NEVER], number) == 1
    assert _draw([-1e30, 3.0, -1e30], number) == 1


@settings(max_examples=200)
@given(
    scores=st.lists(
        st.one_of(st.just(NEVER), st.floats(-80, 80, width=32)), min_size=1, max_size=40
    ).filter(lambda scores: max(scores) > NEVER),
    number=st.floats(0.0, 1.0, exclude_max=True),
)
def test_only_tokens_with_probability_are_drawn(scores: list[float], number: float) -> None:
    token = _draw(scores, number)
    assert 0 <= token < len(scores)
    assert torch.softmax(torch.tensor(scores), 0)[token] > 0


def test_even_numbers_give_each_token_its_share() -> None:
    scores = random_logits(1, 20, spread=1.0)
    numbers = [(at + 0.5) / 20_000 for at in range(20_000)]
    found = torch.bincount(draw_tokens(scores, [numbers]).token_ids[0], minlength=20) / 20_000
    assert (found - torch.softmax(scores[0], 0)).abs().max() < 1e-4


def test_each_row_is_drawn_from_its_own_scores_with_its_own_numbers() -> None:
    scores = random_logits(6, 1000)
    numbers = [[0.1 * row, 0.05 + 0.1 * row, 0.5] for row in range(6)]
    together = draw_tokens(scores, numbers).token_ids
    assert together.shape == (6, 3)
    for row in range(6):
        alone = draw_tokens(scores[row : row + 1], numbers[row : row + 1]).token_ids
        assert torch.equal(together[row], alone[0])
