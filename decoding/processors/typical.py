"""Locally typical sampling: keep the tokens whose surprise is closest to the expected one.

Meister et al. 2022, arXiv:2202.00666, as `transformers.TypicalLogitsWarper`.
"""

import torch
from torch import Tensor

from decoding.whole import Whole

NUM_TRIED = (1024, 8192)  # one after the other, then all


def typicality(whole: Whole) -> Tensor:
    """How typical each token of whole rows is, [rows, vocab]; to find the most typical by."""
    return -(whole.scores - (whole.precise_normaliser - whole.entropy).float()).abs()


def apply_typical(scores: Tensor, typical_p: Tensor, whole: Whole) -> Tensor:
    """Keep of `scores` [rows, candidates] the most typical tokens of mass `typical_p` [rows].

    In float64: many tokens lie so close together that their order is lost below that. Nothing is
    dropped from rows whose candidates hold less than that mass.
    """
    logprobs = scores.double() - whole.precise_normaliser
    distance = (-logprobs - whole.entropy).abs()
    num_candidates = scores.shape[1]
    limits = torch.empty_like(distance[:, :1])
    rows = torch.arange(len(scores), device=scores.device)
    for num_tried in (*(num for num in NUM_TRIED if num < num_candidates), num_candidates):
        found, covered = _limit(logprobs[rows], distance[rows], typical_p[rows], num_tried)
        limits[rows] = found
        rows = rows[~covered]
        if not len(rows):
            break
    return scores.masked_fill(distance > limits, -torch.inf)


def _limit(
    logprobs: Tensor, distance: Tensor, typical_p: Tensor, num_closest: int
) -> tuple[Tensor, Tensor]:
    """The largest distance kept [rows, 1], and whether the closest `num_closest` tell it [rows]."""
    closest = torch.topk(distance, num_closest, dim=1, largest=False)
    reached = logprobs.gather(1, closest.indices).exp().cumsum(dim=1)
    last = (reached < typical_p[:, None]).sum(dim=1, keepdim=True)
    return closest.values.gather(1, last.clamp(max=num_closest - 1)), reached[:, -1] >= typical_p
