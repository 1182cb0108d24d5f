"""The tensors behind the paged cache: keys and values of every layer, by slot.

Slot s of a layer holds one token. Allocated once by the torch runner, written by attention and by
block copies. Memory of a CPU store is claimed from the system only where it is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps of a token."""

    num_heads: int  # key-value heads
    key_dim: int
    value_dim: int

    @property
    def width(self) -> int:
        """Numbers kept of a token."""
        return self.num_heads * (self.key_dim + self.value_dim)


class KVStore:
    """Keys and values by layer: [slots, heads, dim] each. Written on the engine thread only."""

    def __init__(
        self,
        shapes: Mapping[int, LayerShape],
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._block_size = block_size
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        num_slots = num_blocks * block_size
        for layer, shape in shapes.items():
            keys = torch.empty(
                (num_slots, shape.num_heads, shape.key_dim), dtype=dtype, device=device
            )
            values = torch.empty(
                (num_slots, shape.num_heads, shape.value_dim), dtype=dtype, device=device
            )
            keys[:block_size] = 0  # the null block is read as padding and must be finite
            values[:block_size] = 0
            self._layers[layer] = keys, values

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, [slots, heads, dim] each."""
        return self._layers[layer]

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy whole (source, destination) blocks in every layer, all sources read first."""
        if not copies:
            return
        device = next(iter(self._layers.values()))[0].device
        sources, destinations = torch.tensor(copies, device=device).unbind(1)
        for tensors in self._layers.values():
            for tensor in tensors:
                blocks = tensor.view(-1, self._block_size, *tensor.shape[1:])
                blocks[destinations] = blocks[sources]
