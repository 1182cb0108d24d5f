"""Paged accounting: every sequence has a table of blocks, shared by reference count.

The scheduler calls it through the `KVCache` protocol; the torch runner reads `slots` and takes the
pending copies before it writes. Blocks shared by several sequences are copied when one of them
writes (copy-on-write). Full blocks are found again by a hash of everything up to their end, salted,
so a prompt that begins like an earlier one skips that part. No torch.
"""

import hashlib
from array import array
from collections.abc import Sequence

from engine.blocks import BlockAllocator
from engine.kv_cache import TokensBetween


class PagedCache:
    """Block tables of all sequences. Written by the scheduler's calls only."""

    def __init__(self, *, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self._blocks = BlockAllocator(num_blocks)
        self._tables: dict[int, list[int]] = {}
        self._hashes: dict[int, list[bytes]] = {}  # the salt's, then each leading full block's
        self._copies: dict[int, int] = {}  # destination block -> source block, not yet copied

    @property
    def max_tokens(self) -> int:
        """Tokens the cache can hold when nothing is shared."""
        return self._blocks.num_blocks * self.block_size

    @property
    def alignment(self) -> int:
        """Chunks may end anywhere."""
        return 1

    @property
    def can_preempt(self) -> bool:
        """A sequence is computed again from its tokens."""
        return True

    @property
    def num_used_tokens(self) -> int:
        """Room in blocks that somebody holds, in tokens."""
        return (self._blocks.num_blocks - self._blocks.num_free) * self.block_size

    def max_tokens_of(self, num_rows: int, num_tokens: int) -> int:
        """Room that unshared sequences take, rounded up to whole blocks."""
        return num_rows * self._blocks_for(num_tokens) * self.block_size

    def match_prefix(self, sequence_id: int, token_ids: Sequence[int], salt: str) -> int:
        """Adopt the blocks that hold the longest known prefix; returns its length in tokens."""
        assert sequence_id not in self._tables, "only a new sequence can adopt a prefix"
        table: list[int] = []
        hashes = [_root(salt)]
        for end in range(self.block_size, len(token_ids), self.block_size):
            content = _extend(hashes[-1], token_ids[end - self.block_size : end])
            block = self._blocks.find(content)
            if block is None:
                break
            self._blocks.share(block)
            table.append(block)
            hashes.append(content)
        self._tables[sequence_id], self._hashes[sequence_id] = table, hashes
        return len(table) * self.block_size

    def can_reserve(self, num_tokens: int) -> bool:
        """Whether enough whole blocks are free."""
        return self._blocks_for(num_tokens) <= self._blocks.num_free

    def reserve(self, sequence_id: int, start: int, end: int) -> bool:
        """Make positions [start, end) writable: new blocks at the end, private copies before."""
        table = self._tables[sequence_id]
        num_new = max(0, self._blocks_for(end) - len(table))
        first = start // self.block_size
        shared = [at for at in range(first, len(table)) if self._blocks.num_holders(table[at]) > 1]
        if num_new + len(shared) > self._blocks.num_free:
            return False
        for at in shared:
            table[at] = self._private_copy(table[at])
        table.extend(self._blocks.allocate() for _ in range(num_new))
        return True

    def mark_computed(self, sequence_id: int, num_computed: int, tokens: TokensBetween) -> None:
        """Remember the content of the blocks that the leading `num_computed` tokens fill."""
        table, hashes = self._tables[sequence_id], self._hashes[sequence_id]
        while len(hashes) * self.block_size <= num_computed:
            end = len(hashes) * self.block_size
            content = _extend(hashes[-1], tokens(end - self.block_size, end))
            self._blocks.remember(table[len(hashes) - 1], content)
            hashes.append(content)

    def fork(self, parent_id: int, child_id: int) -> None:
        """Let a new sequence share all of its parent's blocks."""
        assert child_id not in self._tables, "a fork needs a new sequence id"
        for block in self._tables[parent_id]:
            self._blocks.share(block)
        self._tables[child_id] = self._tables[parent_id].copy()
        self._hashes[child_id] = self._hashes[parent_id].copy()

    def release(self, sequence_id: int) -> None:
        """Give up the sequence's blocks, last block first, so that a prefix outlives its tail."""
        for block in reversed(self._tables.pop(sequence_id, [])):
            if self._blocks.release(block):
                self._copies.pop(block, None)
        self._hashes.pop(sequence_id, None)

    def slots(self, sequence_id: int, start: int, end: int) -> list[int]:
        """Where positions [start, end) lie: block times block size plus offset."""
        table, size = self._tables[sequence_id], self.block_size
        return [table[at // size] * size + at % size for at in range(start, end)]

    def block_table(self, sequence_id: int) -> Sequence[int]:
        """The sequence's blocks, in order of position."""
        return self._tables[sequence_id]

    def take_copies(self) -> list[tuple[int, int]]:
        """Pending (source, destination) block copies, to be made before the next write."""
        copies = [(source, destination) for destination, source in self._copies.items()]
        self._copies.clear()
        return copies

    def _private_copy(self, block: int) -> int:
        destination = self._blocks.allocate()
        # A block that is itself waiting for its content passes on where that comes from.
        self._copies[destination] = self._copies.get(block, block)
        self._blocks.release(block)
        return destination

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)


def _root(salt: str) -> bytes:
    return hashlib.sha256(salt.encode()).digest()


def _extend(before: bytes, token_ids: Sequence[int]) -> bytes:
    """The hash of a block that follows what `before` covers."""
    return hashlib.sha256(before + array("q", token_ids).tobytes()).digest()
