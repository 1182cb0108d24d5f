"""Repetition penalty: make tokens that already occurred less likely.

Keskar et al. 2019, arXiv:1909.05858, as `transformers.RepetitionPenaltyLogitsProcessor`: positive
scores are divided by the penalty, negative ones multiplied; prompt tokens count as well.
"""

import torch
from torch import Tensor


def apply_repetition_penalty(scores: Tensor, penalty: Tensor, token_ids: Tensor) -> Tensor:
    """Penalise in `scores` [rows, vocab] the tokens in `token_ids` [rows, length] by [rows].

    Shorter rows are padded with any of their own tokens: each token is penalised once.
    """
    penalty = penalty[:, None]
    seen = scores.gather(1, token_ids)
    seen = torch.where(seen < 0, seen * penalty, seen / penalty)
    return scores.scatter(1, token_ids, seen)
