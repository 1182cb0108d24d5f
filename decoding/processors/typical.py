"""Locally typical sampling: keep the tokens whose surprise is closest to the expected one.

Meister et al. 2022, arXiv:2202.00666, as `transformers.TypicalLogitsWarper`.
"""

import torch
from torch import Tensor

from decoding.normaliser import entropy, log_normaliser

NUM_TRIED_FIRST = 256  # they hold the typical set of nearly every real row


def apply_typical(scores: Tensor, typical_p: Tensor) -> Tensor:
    """Keep of `scores` [rows, vocab] the most typical tokens of mass `typical_p` [rows].

    In float64: many tokens lie so close together that their order is lost below that.
    """
    precise = scores.double()
    logprobs = precise - log_normaliser(precise)
    distance = (-logprobs - entropy(logprobs)).abs()
    limits, covered = _limit(logprobs, distance, typical_p, min(NUM_TRIED_FIRST, scores.shape[1]))
    open_rows = (~covered).nonzero().flatten()
    if open_rows.numel():
        limits[open_rows], _ = _limit(
            logprobs[open_rows], distance[open_rows], typical_p[open_rows], scores.shape[1]
        )
    return scores.masked_fill(distance > limits, -torch.inf)


def _limit(
    logprobs: Tensor, distance: Tensor, typical_p: Tensor, num_closest: int
) -> tuple[Tensor, Tensor]:
    """The largest distance kept [rows, 1], and whether the closest `num_closest` tell it [rows]."""
    closest = torch.topk(distance, num_closest, dim=1, largest=False)
    reached = logprobs.gather(1, closest.indices).exp().cumsum(dim=1)
    last = (reached < typical_p[:, None]).sum(dim=1, keepdim=True)
    covered = (reached[:, -1] >= typical_p) | (num_closest == distance.shape[1])
    return closest.values.gather(1, last.clamp(max=num_closest - 1)), covered
