"""Top-k: keep the k best tokens of a row, with ties. As `transformers.TopKLogitsWarper`."""

import torch
from torch import Tensor


def apply_top_k(scores: Tensor, top_k: Tensor) -> Tensor:
    """Drop from `scores` [rows, vocab] all that is below the `top_k` [rows] best, k >= 1."""
    num_kept = top_k.clamp(max=scores.shape[1])
    best = torch.topk(scores, int(num_kept.max()), dim=1).values  # [rows, largest k], descending
    worst_kept = best.gather(1, num_kept[:, None] - 1)
    return scores.masked_fill(scores < worst_kept, -torch.inf)
