"""The log of the sum of exponentials of a row: what turns scores into log-probabilities."""

import torch
from torch import Tensor


def log_normaliser(scores: Tensor) -> Tensor:
    """Of each row of `scores` [rows, vocab], as [rows, 1]; the same bits alone and in a batch.

    Torch splits a reduction to a single number over its threads and adds the parts up in another
    order than it adds a row of many, so a single row is reduced twice over.
    """
    if scores.shape[0] == 1:
        return torch.logsumexp(scores.expand(2, -1), dim=1, keepdim=True)[:1]
    return torch.logsumexp(scores, dim=1, keepdim=True)
