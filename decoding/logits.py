"""What a model says of the rows of one step. Made by runners, read by `chooser`."""

from dataclasses import dataclass

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
