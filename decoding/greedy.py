"""The `greedy` strategy: always the most likely token."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import MostLikely
from decoding.base import Task
from decoding.independent import IndependentDecoder
from decoding.params import OnlyOne, Processing


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
    """Take the most likely token at every step: deterministic, no seed needed."""

    num_return_sequences: OnlyOne = 1

    name: ClassVar[str] = "greedy"
    is_deterministic: ClassVar[bool] = True
    has_independent_rows: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        """One row."""
        return 1

    @property
    def num_results(self) -> int:
        """One sequence."""
        return 1

    def start(self, task: Task) -> IndependentDecoder:
        """Begin decoding one request."""
        return IndependentDecoder(ask=MostLikely(Processing()), task=task)
