"""The memory of this process, and how to hand back what is spare. Operators ask for it."""

import ctypes
import gc
import resource
import sys
from dataclasses import dataclass

import psutil

from machine.memory import available_memory_bytes

RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of `ru_maxrss`


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Bytes of main memory."""

    resident_bytes: int
    peak_bytes: int  # the most that was ever resident
    available_bytes: int  # that it could still take, within its container's limit


def process_memory() -> ProcessMemory:
    """What this process holds now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RUSAGE_UNIT
    resident = psutil.Process().memory_info().rss
    return ProcessMemory(
        resident_bytes=resident,
        peak_bytes=max(peak, resident),
        available_bytes=available_memory_bytes(),
    )


def release_process_memory() -> None:
    """Collect garbage, and give free pages back where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
