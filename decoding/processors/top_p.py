"""Top-p: keep the nucleus of a row. As `transformers.TopPLogitsWarper`.

Holtzman et al. 2019, arXiv:1904.09751. A token stays if the tokens before it, best first, hold
less than p of the probability. Sorting the vocabulary would cost more than all other processors
together, so the best few are tried first; they hold the nucleus of nearly every real row, and
whether they do depends on the row alone.
"""

import torch
from torch import Tensor

from decoding.normaliser import log_normaliser

NUM_TRIED_FIRST = 256


def apply_top_p(scores: Tensor, top_p: Tensor) -> Tensor:
    """Drop from `scores` [rows, vocab] what lies outside the nucleus of mass `top_p` [rows]."""
    floors, covered = _nucleus_floor(scores, top_p, min(NUM_TRIED_FIRST, scores.shape[1]))
    open_rows = (~covered).nonzero().flatten()
    if open_rows.numel():
        floors[open_rows], _ = _nucleus_floor(scores[open_rows], top_p[open_rows], scores.shape[1])
    return scores.masked_fill(scores < floors[:, None], -torch.inf)


def _nucleus_floor(scores: Tensor, top_p: Tensor, num_best: int) -> tuple[Tensor, Tensor]:
    """The lowest score of each nucleus [rows], and whether the best `num_best` hold it [rows]."""
    best = torch.topk(scores, num_best, dim=1).values
    reached = (best - log_normaliser(scores)).double().exp().cumsum(dim=1)
    before = torch.zeros_like(reached)
    before[:, 1:] = reached[:, :-1]
    num_kept = (before < top_p[:, None]).sum(dim=1, keepdim=True)
    covered = (reached[:, -1] >= top_p) | (num_best == scores.shape[1])
    return best.gather(1, num_kept - 1).squeeze(1), covered
