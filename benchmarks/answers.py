"""What a benchmark target answers, and the protocol it offers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.mixed_requests import MixedRequest


class TargetFailed(Exception):
    """The target cannot be reached, or refused or failed a request; the message says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The new tokens of every sequence of a request."""

    token_ids: tuple[tuple[int, ...], ...]

    @property
    def num_tokens(self) -> int:
        """New tokens, all sequences together."""
        return sum(map(len, self.token_ids))


class Target(Protocol):
    """Something that answers requests."""

    @property
    def description(self) -> str:
        """The model, and where it runs."""

    def answer_together(self, requests: Sequence[MixedRequest]) -> list[Answer]:
        """All at once, in the order of `requests`."""

    def answer_in_turn(self, requests: Sequence[MixedRequest]) -> list[Answer]:
        """Each after the one before has ended."""
