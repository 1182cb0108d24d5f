"""Sums over a row, and the log-normaliser that makes scores log-probabilities.

Torch splits a reduction to a single number over its threads and adds the parts up in another
order than it adds a row of many, so a single row is reduced twice over: a row gets the same bits
alone and in a batch.
"""

import torch
from torch import Tensor


def log_normaliser(scores: Tensor) -> Tensor:
    """The log of the summed exponentials of each row of `scores` [rows, vocab], as [rows, 1]."""
    if _is_split(scores):
        return torch.logsumexp(scores.expand(2, -1), dim=1, keepdim=True)[:1]
    return torch.logsumexp(scores, dim=1, keepdim=True)


def row_sum(values: Tensor) -> Tensor:
    """The sum of each row of `values` [rows, columns] in float64, as [rows, 1]."""
    if _is_split(values):
        return values.expand(2, -1).sum(dim=1, keepdim=True, dtype=torch.float64)[:1]
    return values.sum(dim=1, keepdim=True, dtype=torch.float64)


def _is_split(values: Tensor) -> bool:
    return values.shape[0] == 1 and torch.get_num_threads() > 1
