"""The machine as this process may use it: processor, cores, memory, compiler. Changes nothing."""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from app.environment import threading_variables
from app.settings import Settings
from engine.native_library import COMPILERS
from machine.cores import cpu_quota, usable_cores
from machine.memory import available_memory_bytes, total_memory_bytes
from optimize.placement_names import may_have_cuda

CPU_INFO = Path("/proc/cpuinfo")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# What makes arithmetic on 8-bit weights fast, as Linux calls it and as people do.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_int8": "AMX",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON int8 matrix",
}
PACKAGES = ("torch", "onnxruntime", "transformers", "llguidance", "torchao", "uvloop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found."""

    system: str
    python: str
    packages: Mapping[str, str | None]  # their versions; None where one is missing
    processor: str
    instructions: tuple[str, ...]  # those of `INSTRUCTIONS` that it has
    num_physical_cores: int
    num_usable_cores: int  # within affinity and a container's limit
    cpu_quota: float | None  # cores' worth of time that a container may use
    load: float  # processes that want to run, mean of the last minute
    governor: str | None  # how the clock is set
    threading_variables: Mapping[str, str]  # of the environment
    total_memory_bytes: int  # within a container's limit, as the next
    available_memory_bytes: int
    used_swap_bytes: int
    compiler: str | None  # of C++
    may_have_cuda: bool
    cache_folder: str
    can_write_cache: bool
    free_cache_bytes: int  # on the disk of the cache folder

    @classmethod
    def look(cls, settings: Settings) -> "Machine":
        """Look at this machine, as a service with these settings would find it."""
        existing = _existing(settings.cache_folder)
        return cls(
            system=platform.platform(),
            python=platform.python_version(),
            packages={name: _version(name) for name in PACKAGES},
            processor=_cpu_field("model name") or platform.processor() or platform.machine(),
            instructions=_instructions(),
            num_physical_cores=psutil.cpu_count(logical=False) or 1,
            num_usable_cores=usable_cores(),
            cpu_quota=cpu_quota(),
            load=psutil.getloadavg()[0],
            governor=GOVERNOR.read_text().strip() if GOVERNOR.is_file() else None,
            threading_variables=threading_variables(),
            total_memory_bytes=total_memory_bytes(),
            available_memory_bytes=available_memory_bytes(),
            used_swap_bytes=psutil.swap_memory().used,
            compiler=next(filter(None, map(shutil.which, COMPILERS)), None),
            may_have_cuda=may_have_cuda(),
            cache_folder=str(settings.cache_folder),
            can_write_cache=os.access(existing, os.W_OK),
            free_cache_bytes=shutil.disk_usage(existing).free,
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there already."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _instructions() -> tuple[str, ...]:
    flags = (_cpu_field("flags") or _cpu_field("Features") or "").split()
    return tuple(shown for flag, shown in INSTRUCTIONS.items() if flag in flags)


def _cpu_field(name: str) -> str | None:
    if not CPU_INFO.is_file():
        return None
    for line in CPU_INFO.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
