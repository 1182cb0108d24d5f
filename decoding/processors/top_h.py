"""Top-H: keep the best tokens that together hold a share of the entropy.

Baghaei Potraghloo et al. 2025, arXiv:2509.02510, as `transformers.TopHLogitsWarper`: only the best
hundred tokens are looked at.
"""

import torch
from torch import Tensor

from decoding.normaliser import log_normaliser

NUM_LOOKED_AT = 100


def apply_top_h(scores: Tensor, top_h: Tensor) -> Tensor:
    """Keep of `scores` [rows, vocab] the best whose entropy is at most `top_h` [rows] of it."""
    best = torch.topk(scores, min(NUM_LOOKED_AT, scores.shape[1]), dim=1)
    logprobs = best.values - log_normaliser(best.values)
    floor = torch.finfo(logprobs.dtype).min
    terms = -logprobs.exp() * logprobs.clamp(min=floor)
    reached = terms.cumsum(dim=1)
    is_kept = reached <= (reached[:, -1] * top_h)[:, None]
    is_kept[:, 0] = True
    kept = torch.zeros_like(scores, dtype=torch.bool).scatter(1, best.indices, is_kept)
    return scores.masked_fill(~kept, -torch.inf)
