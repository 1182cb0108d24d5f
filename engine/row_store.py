"""The memory behind the row cache: keys and values of every layer, one contiguous row a sequence.

Every row could hold the model's whole context, so the arrays are far larger than the memory they
may take: they are mapped without being claimed, pages come into being where they are written, and
`trim` gives back those that are no longer in use. Layout [layer, row, head, position, dim]: a range
of rows is contiguous within a layer, so it binds to the graph without a copy.
"""

import mmap
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.decoder_shape import DecoderShape
from engine.row_moves import RowCopy

Floats = NDArray[np.float32]

NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # MAP_NORESERVE, which mmap does not name


class RowStore:
    """Keys and values of all rows. Written on the engine thread only."""

    def __init__(self, shape: DecoderShape, *, num_rows: int) -> None:
        self._shape = shape
        self._num_rows = num_rows
        self._claimed = [0] * num_rows  # positions of each row that may have pages
        self._keys_map, self.keys = self._map()
        self._values_map, self.values = self._map()

    def note_written(self, row: int, length: int) -> None:
        """A row is about to be written up to `length` positions."""
        self._claimed[row] = max(self._claimed[row], length)

    def copy(self, copies: Sequence[RowCopy]) -> None:
        """Carry out row copies, in order."""
        for copy in copies:
            self.note_written(copy.destination, copy.length)
            for array in (self.keys, self.values):
                array[:, copy.destination, :, : copy.length] = array[
                    :, copy.source, :, : copy.length
                ]

    def trim(self, in_use: Mapping[int, int], *, max_tokens: int) -> None:
        """Give unused pages back once more is claimed than `max_tokens` positions.

        `in_use` tells how many positions of each row are needed; rows not named need none.
        """
        if sum(self._claimed) <= max_tokens:
            return
        for row, claimed in enumerate(self._claimed):
            needed = in_use.get(row, 0)
            if claimed > needed:
                self._give_back(row, needed)
                self._claimed[row] = needed

    def _map(self) -> tuple[mmap.mmap, Floats]:
        shape = self._shape
        dimensions = (
            *(shape.num_layers, self._num_rows),
            *(shape.num_kv_heads, shape.context_length, shape.head_dim),
        )
        num_bytes = int(np.prod(dimensions, dtype=np.int64)) * 4
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would claim far more than is written
        return memory, np.frombuffer(memory, np.float32).reshape(dimensions)

    def _give_back(self, row: int, first_unused: int) -> None:
        shape = self._shape
        head_bytes = shape.context_length * shape.head_dim * 4
        row_bytes = head_bytes * shape.num_kv_heads
        skipped = -(-first_unused * shape.head_dim * 4 // mmap.PAGESIZE) * mmap.PAGESIZE
        for memory in (self._keys_map, self._values_map):
            for layer in range(shape.num_layers):
                start = (layer * self._num_rows + row) * row_bytes
                for head in range(shape.num_kv_heads):
                    first = start + head * head_bytes + skipped
                    length = head_bytes - skipped
                    if length > 0 and first % mmap.PAGESIZE == 0:
                        memory.madvise(mmap.MADV_DONTNEED, first, length)
