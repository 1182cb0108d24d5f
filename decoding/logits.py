"""What a model says of the rows of one step. Made by runners, read by `chooser`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Summary:
    """What a runner found out about rows of logits while they were at hand."""

    normaliser: Tensor  # [rows, 1] float32: log of the summed exponentials; not finite if unusable
    best: Tensor  # [rows, 1] int64: the token with the largest logit, the first of equals


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits of some rows."""

    values: Tensor  # [rows, vocab]
    summary: Summary | None = None  # None: whoever needs it computes it
    hidden: Tensor | None = None  # [rows, width], where the step's plan wants hidden states
    early: "EarlyExits | None" = None  # of the rows that the step's plan wants them of


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyExits:
    """What the model would say of some rows if it had fewer layers. Computed when asked for.

    Logits of many layers take much memory, so whoever asks takes them a few rows at a time.
    """

    states: Mapping[int, Tensor]  # [kept, width]: what comes out of so many layers
    head: Callable[[Tensor], Logits]  # of states [rows, width], as of the last layer's
    places: Mapping[int, int]  # of rows of the step's logits among those kept

    def of_rows(self, rows: Sequence[int]) -> "EarlyExits":
        """The same for some of the rows of logits, which are counted anew."""
        places = {at: self.places[row] for at, row in enumerate(rows) if row in self.places}
        return replace(self, places=places)

    def logits(self, rows: Sequence[int], layers: Sequence[int]) -> Logits:
        """Logits [rows * layers, vocab], each row's one layer after the other."""
        at = [self.places[row] for row in rows]
        states = torch.stack([self.states[layer][at] for layer in layers], dim=1)
        return self.head(states.flatten(0, 1))
