"""Epsilon and eta sampling: drop tokens below a probability, fixed or by the row's entropy.

Hewitt et al. 2022, arXiv:2210.15191, as `transformers.EpsilonLogitsWarper` and `EtaLogitsWarper`.
"""

import torch
from torch import Tensor

from decoding.normaliser import entropy, log_normaliser


def apply_epsilon(scores: Tensor, epsilon: Tensor) -> Tensor:
    """Drop from `scores` [rows, vocab] what is less likely than `epsilon` [rows]; the best stay."""
    probabilities = (scores - log_normaliser(scores)).exp()
    return _drop_below(scores, probabilities, epsilon)


def apply_eta(scores: Tensor, epsilon: Tensor) -> Tensor:
    """The same with the smaller of `epsilon` and sqrt(`epsilon`) * exp(-entropy)."""
    logprobs = scores - log_normaliser(scores)
    least = torch.minimum(epsilon, epsilon.sqrt() * (-entropy(logprobs).squeeze(1)).exp())
    return _drop_below(scores, logprobs.exp(), least)


def _drop_below(scores: Tensor, probabilities: Tensor, least: Tensor) -> Tensor:
    is_best = scores >= scores.amax(dim=1, keepdim=True)
    return scores.masked_fill((probabilities < least[:, None]) & ~is_best, -torch.inf)
