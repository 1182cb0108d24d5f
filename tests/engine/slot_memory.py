"""The memory of a paged cache as one integer a slot: a stand-in for keys and values.

What a slot holds is a digest of the token and of all before it, read back through the block table
just as attention would read its past. So one wrong slot, a copy left out or a block shared by
mistake changes what every later token of the sequence sees.
"""

import hashlib
from collections.abc import Sequence

from engine.paged_cache import PagedCache
from engine.plan import Plan

NEVER_WRITTEN = -1


class SlotMemory:
    """All slots of a cache. Written by `compute` only."""

    def __init__(self, cache: PagedCache) -> None:
        self._cache = cache
        self._slots = [NEVER_WRITTEN] * (cache.max_tokens + cache.block_size)

    def compute(self, plan: Plan) -> list[bytes]:
        """Run a step; a digest of everything seen, for each of the wanted logits."""
        self.copy_blocks(self._cache.take_copies())
        for row in plan.rows:
            tokens = row.sequence.tokens_between(row.start, row.end)
            self.write(row.sequence.id, row.start, tokens)
        return [
            hashlib.blake2b(repr(self.read(row.sequence.id, end)).encode()).digest()
            for row in plan.rows
            for end in range(row.end - row.num_logits + 1, row.end + 1)
        ]

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy (source, destination) blocks, all sources read first."""
        size = self._cache.block_size
        contents = [self._slots[source * size : (source + 1) * size] for source, _ in copies]
        for (_, destination), content in zip(copies, contents, strict=True):
            self._slots[destination * size : (destination + 1) * size] = content

    def write(self, sequence_id: int, start: int, tokens: Sequence[int], *, root: int = 0) -> None:
        """Put tokens at positions from `start`, each on top of what is read before it."""
        past = self.read(sequence_id, start)[-1] if start else root
        slots = self._cache.slots(sequence_id, start, start + len(tokens))
        for slot, token in zip(slots, tokens, strict=True):
            past = _digest(past, token)
            self._slots[slot] = past

    def read(self, sequence_id: int, end: int) -> list[int]:
        """What positions [0, end) hold."""
        return [self._slots[slot] for slot in self._cache.slots(sequence_id, 0, end)]


def expected_content(tokens: Sequence[int], *, root: int = 0) -> list[int]:
    """What a sequence of these tokens must read back."""
    contents = []
    past = root
    for token in tokens:
        past = _digest(past, token)
        contents.append(past)
    return contents


def _digest(past: int, token: int) -> int:
    """One slot's content."""
    text = f"{past} {token}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "little")
