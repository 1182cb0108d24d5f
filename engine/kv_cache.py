"""The key-value cache as the scheduler sees it: accounting only, whatever the layout.

`paged_cache.PagedCache` implements it for the torch runner. Sequences are known by their id.
Every call is arithmetic; tensors are moved by the runner that owns the cache.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

TokensBetween = Callable[[int, int], Sequence[int]]
"""A sequence's token ids at positions [start, end)."""


class KVCache(Protocol):
    """Room for the keys and values of sequences, shared where their tokens are the same."""

    @property
    def block_size(self) -> int:
        """Tokens of a prompt that are kept and found again together."""

    @property
    def max_tokens(self) -> int:
        """Tokens the cache can hold when nothing is shared."""

    @property
    def alignment(self) -> int:
        """Chunks of a prompt end at multiples of this, or at the prompt's end; 1: anywhere."""

    @property
    def can_preempt(self) -> bool:
        """Whether a sequence whose room was taken can be computed again to the same effect."""

    @property
    def num_used_tokens(self) -> int:
        """Room taken by live sequences, in tokens; shared room counts once."""

    def match_prefix(self, sequence_id: int, token_ids: Sequence[int], salt: str) -> int:
        """Open a sequence, adopting room that holds its leading tokens; return how many it holds.

        At least one token is left to compute.
        """

    def can_reserve(self, num_tokens: int) -> bool:
        """Whether room for `num_tokens` more, unshared, is free. Changes nothing."""

    def reserve(self, sequence_id: int, start: int, end: int) -> bool:
        """Make positions [start, end) of the sequence writable; False, and no change, if full."""

    def mark_computed(self, sequence_id: int, num_computed: int, tokens: TokensBetween) -> None:
        """The keys and values of the leading `num_computed` tokens are in place: share them."""

    def fork(self, parent_id: int, child_id: int) -> None:
        """Let a new sequence share all of its parent's room. Needs no free room."""

    def release(self, sequence_id: int) -> None:
        """Give up the sequence's room; unknown ids are fine. Contents stay until reused."""

    def max_tokens_of(self, num_rows: int, num_tokens: int) -> int:
        """Room that `num_rows` unshared sequences of `num_tokens` each take, in tokens."""
