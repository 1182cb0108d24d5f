"""Top-n-sigma: keep the logits within n standard deviations of the largest.

Tang et al. 2024, arXiv:2411.07641; as llama.cpp's `top_n_sigma` sampler, the deviation is that of
all tokens not ruled out before.
"""

import torch
from torch import Tensor

from decoding.normaliser import row_sum


def apply_top_n_sigma(scores: Tensor, num_sigmas: Tensor) -> Tensor:
    """Drop from `scores` [rows, vocab] what is more than `num_sigmas` [rows] below the best."""
    values = scores.double()
    count = torch.full((scores.shape[0], 1), scores.shape[1], device=scores.device)
    is_open = None
    if scores.amin().isneginf():
        is_open = ~scores.isneginf()
        count = is_open.sum(dim=1, keepdim=True)
        values = torch.where(is_open, values, 0.0)
    mean = row_sum(values) / count
    distances = values - mean
    squares = row_sum(distances * distances if is_open is None else (distances * is_open) ** 2)
    sigma = (squares / count).sqrt()
    floor = scores.amax(dim=1, keepdim=True).double() - num_sigmas[:, None] * sigma
    return scores.masked_fill(scores.double() < floor, -torch.inf)
