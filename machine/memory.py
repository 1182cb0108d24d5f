"""How much main memory there is for this process, within the limits of its container.

Called wherever something is sized or refused by it: models and their conversion (`optimize`), KV
caches (`engine`), what operators are told (`app`). Swap does not count: weights and caches that lie
there are of no use. A limit that a container cannot see, of a group above its own, is not known.
"""

from pathlib import Path

import psutil

from machine.control_groups import PROCESS, ControlGroup, own_groups


def available_memory_bytes(process: Path = PROCESS) -> int:
    """Main memory that this process could still take, in bytes."""
    rooms = [_room(group) for group in own_groups("memory", process)]
    of_machine = int(psutil.virtual_memory().available)
    return max(0, min([of_machine, *(room for room in rooms if room is not None)]))


def total_memory_bytes(process: Path = PROCESS) -> int:
    """Main memory that this process and those with it in its container may take, in bytes."""
    limits = [_limit(group) for group in own_groups("memory", process)]
    of_machine = int(psutil.virtual_memory().total)
    return min([of_machine, *(limit for limit in limits if limit is not None)])


def _room(group: ControlGroup) -> int | None:
    """What is left of a group's limit; None where there is none."""
    limit = _limit(group)
    used = group.number("memory.current" if group.is_unified else "memory.usage_in_bytes")
    return None if limit is None else limit - (used or 0) + _reclaimable(group)


def _limit(group: ControlGroup) -> int | None:
    if group.is_unified:  # beyond `high` processes are held up until they have given memory back
        limits = [group.number("memory.max"), group.number("memory.high")]
    else:  # the second is the least of all above, which need not be seen from here
        of_all = group.numbers("memory.stat").get("hierarchical_memory_limit")
        limits = [group.number("memory.limit_in_bytes"), of_all]
    return min((limit for limit in limits if limit is not None), default=None)


def _reclaimable(group: ControlGroup) -> int:
    """Cached file pages count as used but are given back under pressure, in bytes."""
    name = "inactive_file" if group.is_unified else "total_inactive_file"
    return group.numbers("memory.stat").get(name, 0)
