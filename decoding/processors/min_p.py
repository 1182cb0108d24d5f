"""Min-p: drop tokens far less likely than the best. As `transformers.MinPLogitsWarper`.

Nguyen et al. 2024, arXiv:2407.01082. p < min_p * p_best is, in logits, s < s_best + log(min_p).
"""

from torch import Tensor


def min_p_floor(scores: Tensor, min_p: Tensor) -> Tensor:
    """The score of `min_p` [rows] of the best's probability in `scores` [rows, vocab]."""
    return scores.amax(dim=1) + min_p.log()
