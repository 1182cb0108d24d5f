"""XTC ("exclude top choices"): now and then, drop the likely tokens and keep the creative ones.

By p-e-w, text-generation-webui pull request 6335, also in llama.cpp: of the tokens at least as
likely as a threshold all but the least likely are dropped, if there are two or more. Whether a step
does so is a draw by (seed, sequence index, position) that is made in `decoding.processors.chain`.
"""

import torch
from torch import Tensor

from decoding.normaliser import log_normaliser


def apply_xtc(scores: Tensor, threshold: Tensor) -> Tensor:
    """Drop the top choices of `scores` [rows, candidates] but the last; `threshold` is [rows]."""
    probabilities = (scores - log_normaliser(scores)).exp()
    is_top = (probabilities >= threshold[:, None]) & (probabilities > 0)
    least = torch.where(is_top, scores, torch.inf).amin(dim=1, keepdim=True)
    is_last = is_top & (scores == least)
    # Of equals the first is kept, so that one token is.
    kept = torch.zeros_like(is_top).scatter(
        1, is_last.int().argmax(dim=1, keepdim=True), value=True
    )
    return scores.masked_fill(is_top & ~kept, -torch.inf)
