"""Top-n-sigma: keep the logits within n standard deviations of the largest.

Tang et al. 2024, arXiv:2411.07641; as llama.cpp's `top_n_sigma` sampler, the deviation is that of
all tokens not ruled out before.
"""

from torch import Tensor

from decoding.whole import Whole


def top_n_sigma_floor(scores: Tensor, num_sigmas: Tensor, whole: Whole) -> Tensor:
    """`num_sigmas` [rows] below the best of `scores` [rows, candidates], in float64."""
    return scores.amax(dim=1).double() - num_sigmas * whole.deviation.squeeze(1)
