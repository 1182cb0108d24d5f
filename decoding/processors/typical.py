"""Locally typical sampling: keep the tokens whose surprise is closest to the expected one.

Meister et al. 2022, arXiv:2202.00666, as `transformers.TypicalLogitsWarper`.
"""

import torch
from torch import Tensor

from decoding.normaliser import entropy, log_normaliser


def apply_typical(scores: Tensor, typical_p: Tensor) -> Tensor:
    """Keep of `scores` [rows, vocab] the most typical tokens of mass `typical_p` [rows].

    In float64: many tokens lie so close together that their order is lost below that.
    """
    precise = scores.double()
    logprobs = precise - log_normaliser(precise)
    distance = (-logprobs - entropy(logprobs)).abs()
    sorted_distance, order = torch.sort(distance, dim=1)
    reached = logprobs.gather(1, order).exp().cumsum(dim=1)
    last = (reached < typical_p[:, None]).sum(dim=1, keepdim=True)
    limit = sorted_distance.gather(1, last.clamp(max=scores.shape[1] - 1))
    return scores.masked_fill(distance > limit, -torch.inf)
