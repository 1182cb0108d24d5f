"""Blocks of the paged cache, counted: who holds them, which are free, what the free ones contain.

Written by `PagedCache` only. A block whose last holder leaves keeps its content and its hash until
it is needed for something else, least recently freed first. Block 0 is never handed out: padding
points there. No torch.
"""

from collections import OrderedDict

NULL_BLOCK = 0


class BlockAllocator:
    """Reference counts and contents of `num_blocks` blocks."""

    def __init__(self, num_blocks: int) -> None:
        self._holders = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))

    @property
    def num_blocks(self) -> int:
        """Blocks that can be handed out."""
        return len(self._holders) - 1

    @property
    def num_free(self) -> int:
        """Blocks nobody holds."""
        return len(self._free)

    def num_holders(self, block: int) -> int:
        """How many sequences hold the block."""
        return self._holders[block]

    def allocate(self) -> int:
        """Hand out the block freed longest ago, forgetting its content. Check `num_free` first."""
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        self._holders[block] = 1
        return block

    def share(self, block: int) -> None:
        """Add a holder; a free block whose content is still known comes back to life."""
        if self._holders[block] == 0:
            del self._free[block]
        self._holders[block] += 1

    def release(self, block: int) -> bool:
        """Remove a holder; True if it was the last."""
        assert self._holders[block] > 0, f"block {block} is released more often than held"
        self._holders[block] -= 1
        if self._holders[block]:
            return False
        self._free[block] = None
        if self._hash_of[block] is None:
            self._free.move_to_end(block, last=False)  # nothing to remember: reuse it first
        return True

    def remember(self, block: int, content: bytes) -> None:
        """Note the hash of a full block's content; the first block with it stays the known one."""
        if content not in self._block_of and self._hash_of[block] is None:
            self._block_of[content] = block
            self._hash_of[block] = content

    def find(self, content: bytes) -> int | None:
        """The block that holds this content, free or not."""
        return self._block_of.get(content)

    def _forget(self, block: int) -> None:
        content = self._hash_of[block]
        if content is not None:
            del self._block_of[content]
            self._hash_of[block] = None
