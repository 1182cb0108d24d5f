"""Top-p: keep the nucleus of a row. As `transformers.TopPLogitsWarper`.

Holtzman et al. 2019, arXiv:1904.09751. A token stays if the tokens before it, best first, hold
less than p of the probability. Sorting the vocabulary would cost more than all other processors
together, so the best few are tried first; they hold the nucleus of nearly every real row. How many
are sorted depends on the row alone.
"""

import torch
from torch import Tensor

from decoding.whole import Whole

NUM_TRIED = (1024, 8192)  # one after the other, then all


def top_p_floor(scores: Tensor, top_p: Tensor, whole: Whole) -> Tensor:
    """The lowest of `scores` [rows, candidates] in the nucleus of mass `top_p` [rows].

    The lowest of all for rows whose candidates are fewer than the nucleus.
    """
    num_candidates = scores.shape[1]
    floors = torch.empty_like(scores[:, 0])
    rows = torch.arange(len(scores), device=scores.device)
    for num_tried in (*(num for num in NUM_TRIED if num < num_candidates), num_candidates):
        found, covered = _nucleus_floor(
            scores[rows], top_p[rows], whole.normaliser[rows], num_tried
        )
        floors[rows] = found
        rows = rows[~covered]
        if not len(rows):
            break
    return floors


def _nucleus_floor(
    scores: Tensor, top_p: Tensor, normaliser: Tensor, num_best: int
) -> tuple[Tensor, Tensor]:
    """The lowest score of each nucleus [rows], and whether the best `num_best` hold it [rows]."""
    best = torch.topk(scores, num_best, dim=1).values
    reached = (best - normaliser).double().exp().cumsum(dim=1)
    before = torch.zeros_like(reached)
    before[:, 1:] = reached[:, :-1]
    num_kept = (before < top_p[:, None]).sum(dim=1, keepdim=True)
    return best.gather(1, num_kept - 1).squeeze(1), reached[:, -1] >= top_p
