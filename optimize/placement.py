"""The device and dtype a model is loaded with, settled against what this machine has.

Called by `prepare`. CUDA where present, else the CPU; bfloat16 on CUDA (float16 on cards without
it), float32 on the CPU. Sets no default device and no default dtype.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from machine.memory import available_memory_bytes
from optimize.errors import InvalidPlacement
from optimize.placement_names import DTYPE_BYTES, check_placement_names

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {name: getattr(torch, name) for name in DTYPE_BYTES}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A device that exists and a dtype it can compute in."""

    device: str  # "cpu" or "cuda:<index>"
    dtype: str  # a key of DTYPE_BYTES

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return _DTYPES[self.dtype]

    @property
    def bytes_per_value(self) -> int:
        """Bytes of one weight."""
        return DTYPE_BYTES[self.dtype]

    def of_rank(self, rank: int) -> "Placement":
        """The same for another process of a model that is split: each has a device to itself."""
        return self if self.device == "cpu" else replace(self, device=f"cuda:{rank}")

    def available_bytes(self) -> int:
        """Free memory of the device."""
        if self.device == "cpu":
            return available_memory_bytes()
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        return free_bytes


def choose_placement(device: str | None, dtype: str | None) -> Placement:
    """Settle what was asked for, or choose what suits this machine.

    Raises:
        InvalidPlacement: an unknown name, or a device that is not there.
    """
    check_placement_names(device, dtype)
    chosen = _choose_device(device)
    return Placement(device=chosen, dtype=dtype or _choose_dtype(chosen))


def check_devices(device: str | None, num_processes: int) -> None:
    """Check that a model can be spread over so many processes of this machine.

    Raises:
        InvalidPlacement: there are too few devices, or not those that would be used.
    """
    check_placement_names(device, None)
    if not torch.cuda.is_available():
        return
    if device == "cpu":
        # transformers splits models over the accelerator that torch finds, whatever else is said.
        raise InvalidPlacement(
            "device 'cpu' with --tensor-parallel-size: this machine has CUDA devices, which would "
            "be used. Hide them (CUDA_VISIBLE_DEVICES=), or leave out --device."
        )
    if device is not None and torch.device(device).index is not None:
        raise InvalidPlacement(
            f"device {device!r} with --tensor-parallel-size: the first {num_processes} devices are "
            "used. Choose others with CUDA_VISIBLE_DEVICES, and leave out --device."
        )
    if num_processes > torch.cuda.device_count():
        raise InvalidPlacement(
            f"--tensor-parallel-size {num_processes}: there are {torch.cuda.device_count()} CUDA "
            "devices, and each process needs one."
        )


def _choose_device(device: str | None) -> str:
    if device is None:
        return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    if not torch.cuda.is_available():
        raise InvalidPlacement(
            f"device {device!r}: torch {torch.__version__} finds no CUDA device. Check the driver "
            "with nvidia-smi and that this torch is a CUDA build, or use --device cpu."
        )
    index = torch.device(device).index
    index = torch.cuda.current_device() if index is None else index
    if index >= torch.cuda.device_count():
        raise InvalidPlacement(
            f"device {device!r}: there are {torch.cuda.device_count()} CUDA devices, numbered "
            "from 0. Choose one of them."
        )
    return f"cuda:{index}"


def _choose_dtype(device: str) -> str:
    if device == "cpu":
        return "float32"
    with torch.cuda.device(device):
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_bfloat16 else "float16"
