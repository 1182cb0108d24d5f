"""How many cores this process may compute on. Called by `app/environment.py` and by the doctor."""

import math
import os
from pathlib import Path

import psutil

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "max 100000", or microseconds of time in each period


def usable_cores(quota_file: Path = CPU_QUOTA) -> int:
    """Physical cores within this process's affinity and its container's limit; at least one.

    Two threads of one core share its arithmetic units, so they are counted once.
    """
    limits = [psutil.cpu_count(logical=False), len(_affinity()), _whole(cpu_quota(quota_file))]
    return max(1, min(limit for limit in limits if limit))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def cpu_quota(file: Path = CPU_QUOTA) -> float | None:
    """Cores' worth of time that a container may use; None where there is no limit."""
    try:
        allowed, period = file.read_text().split()[:2]
        return None if allowed == "max" else int(allowed) / int(period)
    except (OSError, ValueError):
        return None


def _whole(quota: float | None) -> int | None:
    return None if quota is None else math.ceil(quota)
