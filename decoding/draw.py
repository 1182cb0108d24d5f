"""Drawing tokens: inverse CDF with one uniform number a draw, vectorised over rows.

The sum runs over the vocabulary in order of token id and in float64, so a draw depends on its
row's scores and its number alone. Long rows are summed in two steps: first find the stretch of
tokens that the draw falls in, then the token; to sum token after token would cost several times as
much as everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_STRETCH = 64  # tokens that are summed at once
_LONG = 32 * _STRETCH  # rows from here on are summed in two steps


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
    numbers = torch.tensor(uniforms, dtype=torch.float64, device=scores.device)
    if scores.shape[1] < _LONG:
        token_ids = _fall(probabilities, numbers).places
    else:
        token_ids = _fall_twice(probabilities, numbers)
    return Drawn(token_ids, probabilities.gather(1, token_ids).log())


@dataclass(frozen=True, slots=True)
class _Fallen:
    """Where numbers fell among weights."""

    places: Tensor  # [rows, count]
    targets: Tensor  # the same on the scale of the summed weights
    cumulative: Tensor  # [rows, choices]

    def shares(self, weights: Tensor) -> Tensor:
        """How far into their places the numbers fell, as shares of these, in [0, 1]."""
        weight = weights.gather(1, self.places).double()
        before = self.cumulative.gather(1, self.places) - weight
        return ((self.targets - before) / weight).clamp(0.0, 1.0)


def _fall(weights: Tensor, numbers: Tensor) -> _Fallen:
    """Where `numbers` [rows, count] in [0, 1] fall among `weights` [rows, choices], above 0."""
    cumulative = weights.double().cumsum(dim=1)
    total = cumulative[:, -1:]
    # Below the total even after rounding, so that what is found is not behind the last weight.
    targets = torch.minimum(numbers * total, torch.nextafter(total, torch.zeros_like(total)))
    places = torch.searchsorted(cumulative, targets, right=True)
    return _Fallen(places, targets, cumulative)


def _fall_twice(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """The tokens that `numbers` fall on: the stretch first, the place within it then."""
    vocab_size = probabilities.shape[1]
    num_whole = vocab_size // _STRETCH
    cut = num_whole * _STRETCH
    stretches = probabilities[:, :cut].reshape(-1, num_whole, _STRETCH).sum(dim=2)
    tail = probabilities[:, cut:]
    stretches = torch.cat((stretches, tail.sum(dim=1, keepdim=True)), dim=1)
    fallen = _fall(stretches, numbers)
    stretch = fallen.places
    places = stretch[:, :, None] * _STRETCH + torch.arange(_STRETCH, device=stretch.device)
    is_there = places < vocab_size
    rows = torch.arange(places.shape[0], device=places.device)[:, None, None]
    weights = probabilities[rows, places.clamp(max=vocab_size - 1)] * is_there
    shares = fallen.shares(stretches).reshape(-1, 1)
    return stretch * _STRETCH + _fall(weights.flatten(0, 1), shares).places.view_as(stretch)
