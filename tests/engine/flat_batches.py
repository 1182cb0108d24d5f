"""Sequences placed in a paged cache, and plans over them: what the tests of tensors start from."""

import torch

from engine.flat_batch import FlatBatch, build_flat_batch
from engine.kv_store import KVStore, LayerShape
from engine.paged_cache import PagedCache
from engine.plan import Plan, PlannedRow
from engine.sequence import Sequence

CPU = torch.device("cpu")


class PlacedBatch:
    """Rows with tokens [start, end) to compute, each with its room reserved out of order."""

    def __init__(
        self,
        ranges: list[tuple[int, int]],
        *,
        shape: LayerShape,
        block_size: int = 4,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        num_blocks = 2 + sum(end // block_size + 1 for _, end in ranges)
        self.cache = PagedCache(num_blocks=num_blocks, block_size=block_size)
        self.store = KVStore(
            {0: shape}, num_blocks=num_blocks, block_size=block_size, dtype=dtype, device=CPU
        )
        self.rows = [
            PlannedRow(_sequence(at, end), start, end, num_logits=int(at % 3 != 1))
            for at, (start, end) in enumerate(ranges)
        ]
        self._reserve_block_by_block()

    @property
    def plan(self) -> Plan:
        """All rows, none of whose groups choose."""
        return Plan(rows=tuple(self.rows), stepping=())

    def build(self) -> FlatBatch:
        """The plan as tensors."""
        return build_flat_batch(self.plan, self.cache, self.store, CPU)

    def slots(self, at: int, start: int, end: int) -> list[int]:
        """Slots of a row's positions."""
        return self.cache.slots(self.rows[at].sequence.id, start, end)

    def _reserve_block_by_block(self) -> None:
        # In turns, last row first, so that no table is a run of neighbouring blocks.
        longest = max(row.end for row in self.rows)
        size = self.cache.block_size
        for row in self.rows:
            self.cache.match_prefix(row.sequence.id, (), "")
        for end in range(size, longest + size, size):
            for row in reversed(self.rows):
                if row.end > end - size:
                    assert self.cache.reserve(row.sequence.id, end - size, min(end, row.end))


def _sequence(at: int, end: int) -> Sequence:
    return Sequence(id=at, prompt_ids=tuple(100 * at + position for position in range(end)))
