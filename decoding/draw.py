"""Drawing tokens: inverse CDF with one uniform number a draw, vectorised over rows.

The sum runs over the vocabulary in order of token id and in float64, so a draw depends on its
row's scores and its number alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """Drawn tokens and their log-probabilities in the distribution drawn from, [rows, count]."""

    token_ids: Tensor
    logprobs: Tensor


def draw_tokens(scores: Tensor, uniforms: Sequence[Sequence[float]]) -> Drawn:
    """Draw tokens from softmax(`scores`) [rows, vocab], each row with its uniform numbers.

    Every row brings the same count of numbers in [0, 1).
    """
    probabilities = torch.softmax(scores, dim=1)
    cumulative = probabilities.double().cumsum(dim=1)
    numbers = torch.tensor(uniforms, dtype=torch.float64, device=scores.device)
    total = cumulative[:, -1:]
    # Below the total even after rounding, so the token found has a probability above zero.
    below_total = torch.nextafter(total, torch.zeros_like(total))
    targets = torch.minimum(numbers * total, below_total)
    token_ids = torch.searchsorted(cumulative, targets, right=True)
    return Drawn(token_ids, probabilities.gather(1, token_ids).log())
