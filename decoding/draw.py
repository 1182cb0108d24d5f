"""Drawing tokens: inverse CDF with one uniform number a draw, vectorised over rows.

The sum runs over the vocabulary in order of token id and in float64, so a draw depends on its
row's scores and its number alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_tokens(scores: Tensor, uniforms: Sequence[Sequence[float]]) -> Tensor:
    """Draw tokens from softmax(`scores`) [rows, vocab], each row with its uniform numbers.

    Every row brings the same count of numbers in [0, 1). Returns token ids [rows, count] int64.
    """
    cumulative = torch.softmax(scores, dim=1).double().cumsum(dim=1)
    numbers = torch.tensor(uniforms, dtype=torch.float64, device=scores.device)
    total = cumulative[:, -1:]
    # Below the total even after rounding, so the token found has a probability above zero.
    below_total = torch.nextafter(total, torch.zeros_like(total))
    targets = torch.minimum(numbers * total, below_total)
    return torch.searchsorted(cumulative, targets, right=True)
