"""How large a KV cache is: what the settings say, or what memory allows.

Called once by each runner at load, when the model is in memory already. Does not allocate. In a
container the memory that counts is what its limit leaves.
"""

from collections.abc import Iterable

import torch

from engine.config import EngineConfig
from engine.errors import CacheTooLarge, CacheTooSmall
from engine.kv_store import LayerShape
from machine.memory import available_memory_bytes

CPU_SHARE = 0.25  # of the memory that is available once the model is loaded
CPU_MOST_BYTES = 4 * 2**30
CUDA_SHARE = 0.85
CPU = torch.device("cpu")


def budget_bytes(config: EngineConfig, device: torch.device = CPU) -> int:
    """Bytes that keys and values of this model may take."""
    budget = config.kv_cache_bytes if config.kv_cache_bytes is not None else _usual_bytes(device)
    return int(budget * config.kv_cache_share)


def require_free(num_bytes: int, device: torch.device = CPU) -> None:
    """Check that a cache of this size can be filled.

    Raises:
        CacheTooLarge: less memory is free.
    """
    free = _free_bytes(device)
    if num_bytes > free:
        raise CacheTooLarge(
            f"the KV cache would take {num_bytes} bytes of the {free} that are free to this "
            f"process on {device}: lower kv_cache_bytes or max_rows"
        )


def num_cache_blocks(
    shapes: Iterable[LayerShape],
    config: EngineConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    context_length: int,
) -> int:
    """Blocks of a torch model that fit, the null block included; no more than a full batch uses.

    Raises:
        CacheTooSmall: not even one block a row of a step fits.
        CacheTooLarge: the settings ask for more memory than is free.
    """
    block_bytes = sum(shape.width for shape in shapes) * dtype.itemsize * config.block_size
    budget = budget_bytes(config, device)
    blocks_of_full_batch = config.max_rows * -(-context_length // config.block_size)
    num_blocks = min(budget // block_bytes, blocks_of_full_batch + 1)
    if num_blocks <= config.max_rows:
        raise CacheTooSmall(
            f"{budget} bytes hold {num_blocks} cache blocks of {block_bytes} bytes; "
            f"{config.max_rows + 1} are needed: raise kv_cache_bytes or lower max_rows"
        )
    require_free(num_blocks * block_bytes, device)
    return num_blocks


def _usual_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(_free_bytes(device) * CUDA_SHARE)
    return min(int(_free_bytes(device) * CPU_SHARE), CPU_MOST_BYTES)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_memory_bytes()
