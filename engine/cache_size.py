"""How large the KV cache of a torch model is: what the settings say, or what memory allows.

Called once by the torch runner at load. Does not allocate.
"""

from collections.abc import Iterable

import psutil
import torch

from engine.config import EngineConfig
from engine.errors import CacheTooLarge, CacheTooSmall
from engine.kv_store import LayerShape

CPU_SHARE = 0.25  # of the memory that is available once the model is loaded
CPU_MOST_BYTES = 4 * 2**30
CUDA_SHARE = 0.85


def num_cache_blocks(
    shapes: Iterable[LayerShape],
    config: EngineConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    context_length: int,
) -> int:
    """Blocks that fit, the null block included, and never more than a full batch can use.

    Raises:
        CacheTooSmall: not even one block a row of a step fits.
        CacheTooLarge: the settings ask for more memory than is free.
    """
    block_bytes = sum(shape.width for shape in shapes) * dtype.itemsize * config.block_size
    budget = config.kv_cache_bytes if config.kv_cache_bytes is not None else _usual_bytes(device)
    blocks_of_full_batch = config.max_rows * -(-context_length // config.block_size)
    budget = int(budget * config.kv_cache_share)
    num_blocks = min(budget // block_bytes, blocks_of_full_batch + 1)
    if num_blocks <= config.max_rows:
        raise CacheTooSmall(
            f"{budget} bytes hold {num_blocks} cache blocks of {block_bytes} bytes; "
            f"{config.max_rows + 1} are needed: raise kv_cache_bytes or lower max_rows"
        )
    free = _free_bytes(device)
    if num_blocks * block_bytes > free:
        raise CacheTooLarge(
            f"the KV cache would take {num_blocks * block_bytes} bytes of the {free} that are free "
            "on this device: lower kv_cache_bytes or max_rows"
        )
    return num_blocks


def _usual_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(_free_bytes(device) * CUDA_SHARE)
    return min(int(_free_bytes(device) * CPU_SHARE), CPU_MOST_BYTES)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
