"""Rows of scores as whole rows, for filters and choices that look at a part of them.

A truncation needs two things: the tokens that it may keep, which are few, and what it measures them
by, which is a figure of all tokens. What is asked for is computed when it is first asked for.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from decoding.best_tokens import Columns, take
from decoding.normaliser import log_normaliser, row_sum


class Whole:
    """Some `rows` of `scores` [all, vocab], or all; they are copied only if need be.

    They count as divided by their `temperature` [rows] if there is one. `normaliser` [all, 1] is
    that of the scores as they are, if it is known already.
    """

    def __init__(self, scores: Tensor, normaliser: Tensor | None = None) -> None:
        self._table = scores
        self._normalisers = normaliser
        self._columns = Columns(scores)
        self._rows: Sequence[int] = range(scores.shape[0])
        self._temperature: Tensor | None = None

    def of_rows(self, rows: Sequence[int]) -> "Whole":
        """The same of some of the rows."""
        part = Whole.__new__(Whole)
        part._table, part._normalisers = self._table, self._normalisers
        part._columns = self._columns
        part._rows = [self._rows[row] for row in rows]
        part._temperature = None if self._temperature is None else self._temperature[list(rows)]
        return part

    def divided_by(self, temperatures: Sequence[float]) -> "Whole":
        """The rows, each scaled by its temperature."""
        part = self.of_rows(range(len(self._rows)))
        part._temperature = torch.tensor(temperatures, device=self._table.device)
        return part

    @property
    def num_tokens(self) -> int:
        """The vocabulary, what has been ruled out included."""
        return self._table.shape[1]

    def take(self, token_ids: Tensor) -> Tensor:
        """The scores, not scaled, of `token_ids` [rows, count]."""
        return take(self._table, self._at, token_ids)

    def best_tokens(self, count: int) -> Tensor:
        """Token ids of the largest scores, [rows, count], best first; all if there are fewer."""
        return self._columns.best_tokens(min(count, self.num_tokens), self._at)

    @cached_property
    def scores(self) -> Tensor:
        """The scores [rows, vocab]; not to be written to."""
        scores = self._table[self._at]
        return scores if self._temperature is None else scores / self._temperature[:, None]

    @cached_property
    def normaliser(self) -> Tensor:
        """The log of the summed exponentials, [rows, 1]."""
        if self._normalisers is not None and self._temperature is None:
            return self._normalisers[self._at]
        return log_normaliser(self.scores)

    @cached_property
    def precise_normaliser(self) -> Tensor:
        """The same in float64, [rows, 1]."""
        share = self._chances.amax(dim=1, keepdim=True).double() / self._mass
        return self.scores.amax(dim=1, keepdim=True).double() - share.log()

    @cached_property
    def num_open(self) -> Tensor:
        """How many tokens have not been ruled out, [rows, 1]."""
        return self.num_tokens - self.scores.isneginf().sum(dim=1, keepdim=True)

    @cached_property
    def entropy(self) -> Tensor:
        """The entropy in nats, [rows, 1] float64."""
        scores = self.scores
        if self._has_closed:  # times a probability of 0 this is 0, and not NaN
            scores = scores.clamp(min=torch.finfo(scores.dtype).min / 2)
        expected = row_sum(self._chances * scores) / self._mass
        return self.precise_normaliser - expected

    @cached_property
    def deviation(self) -> Tensor:
        """The standard deviation of the scores that have not been ruled out, [rows, 1] float64."""
        values = self.scores.double()
        if not self._has_closed:
            distances = values - row_sum(values) / self.num_tokens
            return (row_sum(distances * distances) / self.num_tokens).sqrt()
        is_open = ~self.scores.isneginf()
        mean = row_sum(torch.where(is_open, values, 0.0)) / self.num_open
        distances = torch.where(is_open, values - mean, 0.0)
        return (row_sum(distances * distances) / self.num_open).sqrt()

    @cached_property
    def _chances(self) -> Tensor:
        """Each token's probability in float32, [rows, vocab]."""
        return torch.softmax(self.scores, dim=1)

    @cached_property
    def _mass(self) -> Tensor:
        """What these sum to, which is not quite 1, [rows, 1] float64."""
        return row_sum(self._chances)

    @cached_property
    def _has_closed(self) -> bool:
        return bool(self.scores.amin() == -math.inf)

    @cached_property
    def _at(self) -> Tensor | slice:
        return places_of(self._rows, self._table.device)


def places_of(rows: Sequence[int], device: torch.device) -> Tensor | slice:
    """An index of rows in their order, some at least.

    Rows that stand side by side are looked at where they are, others have to be copied.
    """
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, device=device)
