"""What one peer did in one turn, and how peers are asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.load.workload import PromptRequest


class PeerFailed(Exception):
    """A peer cannot start, cannot do what was asked, or died; holds its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Work done and the wall-clock time it took."""

    seconds: float
    num_prompt_tokens: int
    num_new_tokens: int
    text: str  # the first answer, to see that it is one

    def tokens_per_second(self, *, is_prefill: bool) -> float:
        """Of the prompts or of the answers."""
        return (self.num_prompt_tokens if is_prefill else self.num_new_tokens) / self.seconds


class Peer(Protocol):
    """Somebody who takes part. Paused whenever it is not its turn, so that it uses no core."""

    @property
    def name(self) -> str:
        """What to call it in the results."""

    def start(self) -> None:
        """Load the model.

        Raises:
            PeerFailed: it cannot.
        """

    def take_turn(self, requests: Sequence[PromptRequest], concurrency: int) -> Turn:
        """Answer the requests, so many at a time.

        Raises:
            PeerFailed: it cannot.
        """

    def memory_bytes(self) -> int:
        """Main memory that its processes hold."""

    def close(self) -> None:
        """End its processes."""
