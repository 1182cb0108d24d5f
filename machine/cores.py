"""How many cores this process may compute on, within the limits of its container.

Called by `app/environment.py`, by the doctor, and where `optimize` measures.
"""

import math
import os
from pathlib import Path

import psutil

from machine.control_groups import PROCESS, ControlGroup, own_groups


def usable_cores(process: Path = PROCESS) -> int:
    """Physical cores within this process's affinity and its container's limit; at least one.

    Two threads of one core share its arithmetic units, so they are counted once.
    """
    quota = cpu_quota(process)
    whole = None if quota is None else math.ceil(quota)
    limits = [psutil.cpu_count(logical=False), len(_affinity()), whole]
    return max(1, min(limit for limit in limits if limit))


def cpu_quota(process: Path = PROCESS) -> float | None:
    """Cores' worth of time that a container may use; None where there is no limit."""
    quotas = [_quota(group) for group in own_groups("cpu", process)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota(group: ControlGroup) -> float | None:
    """Microseconds of time in each period; "max", or a negative number, is no limit."""
    if group.is_unified:
        words = group.words("cpu.max")
    else:
        words = group.words("cpu.cfs_quota_us") + group.words("cpu.cfs_period_us")
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    return int(words[0]) / int(words[1])
