"""The order for a model: which one, in what precision, where. Made by the app from its settings.

Only values, no checks of files or devices (those are in `check`) and no torch.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What to serve and how to load it."""

    source: str | None = None  # hub id, local folder or GGUF file; None: the embedded default
    revision: str | None = None  # branch, tag or commit of a hub id; nothing else has one
    device: str | None = None  # "cpu", "cuda", "cuda:1"; None: CUDA where present, else the CPU
    dtype: str | None = None  # "float32", "bfloat16", "float16"; None: what suits the device
    trust_remote_code: bool = False  # run Python code that comes with the model
    cache_folder: Path  # where converted models are kept
