"""Top-k: keep the k best tokens of a row, with ties. As `transformers.TopKLogitsWarper`."""

import torch
from torch import Tensor


def top_k_floor(scores: Tensor, top_k: Tensor) -> Tensor:
    """The `top_k`-th [rows] best of `scores` [rows, vocab], k >= 1; the last if there are fewer."""
    num_kept = top_k.clamp(max=scores.shape[1])
    best = torch.topk(scores, int(num_kept.max()), dim=1).values  # [rows, largest k], descending
    return best.gather(1, num_kept[:, None] - 1).squeeze(1)
