"""The names of devices and dtypes, checked without torch. Called by `check` and `placement`.

Says nothing about what this machine has, save for the cheap question whether an NVIDIA driver is
there at all, so that a CUDA order on a plain machine fails at once.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from optimize.errors import InvalidPlacement

DTYPE_BYTES: Mapping[str, int] = MappingProxyType({"float32": 4, "bfloat16": 2, "float16": 2})
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")
_DRIVER_FILES = (
    "/dev/nvidiactl",
    "/dev/dxg",
    "/dev/nvhost-gpu",
    "/dev/nvgpu",
)  # native, WSL, Jetson


def check_placement_names(device: str | None, dtype: str | None) -> None:
    """Check that both names are known and the device can exist here.

    Raises:
        InvalidPlacement: one is not; the message lists the choices.
    """
    if dtype is not None and dtype not in DTYPE_BYTES:
        raise InvalidPlacement(f"dtype {dtype!r}: choose one of {', '.join(DTYPE_BYTES)}.")
    if device is None:
        return
    if not _DEVICE.fullmatch(device):
        raise InvalidPlacement(f"device {device!r}: choose cpu, cuda or a numbered one (cuda:1).")
    if device != "cpu" and not may_have_cuda():
        raise InvalidPlacement(
            f"device {device!r}: this machine has no NVIDIA driver. Install one, or use "
            "--device cpu."
        )


def may_have_cuda() -> bool:
    """Whether a CUDA device is possible; only torch knows for certain."""
    return sys.platform == "win32" or any(Path(file).exists() for file in _DRIVER_FILES)
