"""Mirostat's truncation: drop what is more surprising than the row may be by now.

Basu et al. 2021, arXiv:2007.14966, as llama.cpp's two samplers. How the bound moves from token to
token is the strategy's affair: `decoding.mirostat`.
"""

import math

import torch
from torch import Tensor

from decoding.normaliser import row_sum
from decoding.whole import Whole

NUM_ESTIMATED_FROM = 100  # most likely tokens that version 1 fits Zipf's law to


def mirostat_2_floor(_scores: Tensor, most_bits: Tensor, whole: Whole) -> Tensor:
    """The score of a token of `most_bits` [rows] of surprise."""
    return whole.normaliser.squeeze(1) - most_bits * math.log(2)


def apply_mirostat_1(scores: Tensor, most_bits: Tensor, whole: Whole) -> Tensor:
    """Keep of `scores` [rows, candidates] as many best as Zipf's law allows for `most_bits`."""
    num_best = min(NUM_ESTIMATED_FROM, scores.shape[1])
    best = torch.topk(scores, num_best, dim=1).values
    exponent = _zipf_exponent((best - whole.normaliser).double())
    num_kept = _num_kept(exponent, most_bits, whole.num_tokens)
    order = torch.argsort(scores, dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter(
        1, order, torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    )
    return scores.masked_fill(rank >= num_kept[:, None], -torch.inf)


def _zipf_exponent(logprobs: Tensor) -> Tensor:
    """The exponent that fits the best tokens' `logprobs` [rows, best] with the least squares."""
    ranks = torch.arange(1, logprobs.shape[1] + 1, dtype=torch.float64, device=logprobs.device)
    steps = (ranks[1:] / ranks[:-1]).log()
    falls = logprobs[:, :-1] - logprobs[:, 1:]
    falls = torch.where(torch.isfinite(falls), falls, 0.0)
    return (row_sum(steps * falls) / (steps**2).sum()).squeeze(1)


def _num_kept(exponent: Tensor, most_bits: Tensor, vocab_size: int) -> Tensor:
    epsilon = exponent - 1
    most = most_bits.double()
    kept = (epsilon * most.exp2() / (1 - float(vocab_size) ** -epsilon)) ** (1 / exponent)
    kept = torch.where(torch.isfinite(kept), kept, float(vocab_size))
    return kept.floor().clamp(1, vocab_size).long()
