"""Draws without replacement: as likely as drawing one after the other, and a row's own affair."""

import math
from collections import Counter
from itertools import permutations

import torch
from scipy.stats import chisquare, kstest

from decoding.distinct import draw_distinct, gumbel_noise
from decoding.randomness import stream_key
from tests.decoding.rows import random_logits

NUM_ROWS = 20_000
NEVER = -math.inf


def _keys(count: int = NUM_ROWS) -> list[int]:
    return [stream_key(seed, 0, 0) for seed in range(count)]


def test_pairs_are_as_likely_as_when_drawn_one_after_the_other() -> None:
    scores = torch.tensor([[0.1, 1.0, -1.0, NEVER, 0.5]])
    drawn = draw_distinct(scores.expand(NUM_ROWS, -1), _keys(), 2).token_ids.tolist()
    counts = Counter((first, second) for first, second in drawn)
    shares = torch.softmax(scores[0].double(), 0).tolist()
    pairs = list(permutations((0, 1, 2, 4), 2))
    expected = [NUM_ROWS * shares[a] * shares[b] / (1 - shares[a]) for a, b in pairs]
    assert chisquare([counts[pair] for pair in pairs], expected).pvalue > 1e-6


def test_noise_is_gumbel_distributed_over_rows_and_over_tokens() -> None:
    ids = torch.arange(NUM_ROWS)[None]
    over_tokens = gumbel_noise(torch.tensor(_keys(1)), ids)[0]
    over_rows = gumbel_noise(torch.tensor(_keys()), torch.tensor([[7]]))[:, 0]
    for noise in (over_tokens, over_rows):
        assert kstest(noise.numpy(), "gumbel_r").pvalue > 1e-6


def test_a_tokens_noise_depends_on_its_row_and_itself_alone() -> None:
    keys = torch.tensor(_keys(5))
    ids = torch.arange(1000).expand(5, -1)
    noise = gumbel_noise(keys, ids)
    picked = torch.tensor([[3, 999, 14, 500]])
    for row in range(5):
        alone = gumbel_noise(keys[row : row + 1], picked)
        assert torch.equal(alone[0], noise[row][picked[0]])


def test_looking_at_the_open_tokens_alone_draws_the_same() -> None:
    scores = random_logits(3, 5000)
    narrow = scores.masked_fill(scores < scores.topk(50).values[:, -1:], NEVER)
    wide = narrow.clone()
    wide[1] = scores[1]  # a neighbour without truncation: now the whole vocabulary is looked at
    keys = _keys(3)
    few, many = draw_distinct(narrow, keys, 8), draw_distinct(wide, keys, 8)
    for row in (0, 2):
        assert torch.equal(few.token_ids[row], many.token_ids[row])
        assert torch.equal(few.noise[row], many.noise[row])


def test_dropped_tokens_come_after_all_others() -> None:
    scores = torch.tensor([[NEVER, 1.0, NEVER, 0.0, NEVER]])
    for key in _keys(50):
        drawn = draw_distinct(scores, [key], 4).token_ids[0].tolist()
        assert set(drawn[:2]) == {1, 3}
        assert len(set(drawn)) == 4
