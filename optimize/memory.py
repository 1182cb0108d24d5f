"""How much memory and disk there is, and the refusal when a model does not fit.

Called by `check` and `prepare` for main memory and the cache's disk; `placement` asks a GPU for
its own. What is free of main memory `machine` knows, also in a container.
"""

import shutil
from pathlib import Path

from machine.memory import available_memory_bytes
from optimize.errors import CacheUnusable, NotEnoughMemory

WORKING_MARGIN_BYTES = 256 * 1024**2  # activations and a small KV cache on top of the weights


def require_memory(name: str, *, num_weight_bytes: int, available_bytes: int, place: str) -> None:
    """Check that weights of this size fit into the free memory of `place`.

    Raises:
        NotEnoughMemory: they and a working margin do not; the message gives the numbers.
    """
    needed = num_weight_bytes + WORKING_MARGIN_BYTES
    if needed > available_bytes:
        raise NotEnoughMemory(
            f"{name} does not fit: its weights need {_gib(num_weight_bytes)} and serving another "
            f"{_gib(WORKING_MARGIN_BYTES)} at least, and {place} has {_gib(available_bytes)} free. "
            "Free some memory, choose a smaller dtype (--dtype bfloat16) or a smaller model."
        )


def require_conversion(name: str, folder: Path, *, num_bytes: int) -> None:
    """Check that writing a model of `num_bytes` into `folder` can succeed.

    Raises:
        NotEnoughMemory: main memory cannot hold it twice, which converting takes at its peak.
        CacheUnusable: the folder's disk cannot hold it.
    """
    available = available_memory_bytes()
    if 2 * num_bytes + WORKING_MARGIN_BYTES > available:
        raise NotEnoughMemory(
            f"converting {name} needs {_gib(2 * num_bytes + WORKING_MARGIN_BYTES)} of main memory "
            f"and {_gib(available)} are free. Free some memory, or convert it on a larger machine "
            "and copy the cache folder."
        )
    free_bytes = shutil.disk_usage(folder).free
    if num_bytes > free_bytes:
        raise CacheUnusable(
            f"converting {name} needs {_gib(num_bytes)} in {folder}, and its disk has "
            f"{_gib(free_bytes)} free. Free some space or choose another cache folder."
        )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 1024**3:.2f} GiB"
