"""What torch's allocator holds of an accelerator's memory, and how to hand back what is spare.

The service's operators ask through the app, which never names torch. Any thread may call it. On a
CPU there is nothing to tell: the process's own memory is what counts there.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """Bytes on one accelerator."""

    allocated_bytes: int  # in tensors
    reserved_bytes: int  # held by the allocator, what is allocated included
    peak_bytes: int  # the most that was ever allocated
    total_bytes: int  # of the device


def device_memory(device: str) -> DeviceMemory | None:
    """The memory of "cuda" or "cuda:N"; None for a device without memory of its own."""
    place = torch.device(device)
    if place.type != "cuda":
        return None
    return DeviceMemory(
        allocated_bytes=torch.cuda.memory_allocated(place),
        reserved_bytes=torch.cuda.memory_reserved(place),
        peak_bytes=torch.cuda.max_memory_allocated(place),
        total_bytes=torch.cuda.mem_get_info(place)[1],
    )


def release_device_memory(device: str) -> None:
    """Give the system what is reserved and not allocated; nothing on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
