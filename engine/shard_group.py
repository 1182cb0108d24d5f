"""The processes that each compute one shard of a model: how they meet and what they settle.

Rank 0 serves; the others follow it (`shard_runner`). Collectives run on NCCL between CUDA devices
and on gloo between processes of a CPU. The group is torch's default one, because transformers'
sharded layers use that.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlace:
    """The place of one process in its group."""

    rank: int  # 0 is the one that serves
    size: int
    meeting_file: Path  # which all of them see, and nobody else
    device: str  # "cpu" or "cuda:<index>"
    timeout_seconds: float  # how long one of them waits for another in the middle of a step


def join_group(place: ShardPlace) -> None:
    """Meet the others; returns when all are there.

    Raises:
        RuntimeError: one of them did not come in time.
    """
    device = torch.device(place.device)
    is_cpu = device.type == "cpu"
    if not is_cpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "gloo" if is_cpu else "nccl",
        store=dist.FileStore(  # type: ignore[attr-defined]  # documented, but not in __all__
            str(place.meeting_file), place.size
        ),
        rank=place.rank,
        world_size=place.size,
        timeout=timedelta(seconds=place.timeout_seconds),
        device_id=None if is_cpu else device,  # NCCL connects now and not in the first collective
    )


def leave_group() -> None:
    """Forget the others, which do so as well: to NCCL that is one more thing to do together.

    Not for a group that lost one, or is in the middle of a step: its collectives may never end.
    """
    if dist.is_initialized():
        dist.destroy_process_group()


def can_leave_alone() -> bool:
    """Whether one process may forget the others while they stay."""
    return dist.is_initialized() and dist.get_backend() == dist.Backend.GLOO


def least_of_all(number: int, device: str) -> int:
    """The least of the numbers that the processes of the group give; all must call it."""
    value = torch.tensor(number, device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return int(value.item())
