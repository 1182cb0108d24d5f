"""Min-p: drop tokens far less likely than the best. As `transformers.MinPLogitsWarper`.

Nguyen et al. 2024, arXiv:2407.01082. p < min_p * p_best is, in logits, s < s_best + log(min_p).
"""

import torch
from torch import Tensor


def apply_min_p(scores: Tensor, min_p: Tensor) -> Tensor:
    """Drop from `scores` [rows, vocab] what is below `min_p` [rows] of the best, 0 < p <= 1."""
    floor = scores.amax(dim=1) + min_p.log()
    return scores.masked_fill(scores < floor[:, None], -torch.inf)
