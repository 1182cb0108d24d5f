"""Compiles a model's repeated layers with `torch.compile`, once for all of them.

Used by the app when it serves a folder that `beamline optimize compile` made, and for measuring
such a folder. One layer's code stands for all, with shapes left open, so compiling takes as long
for many layers as for one. What the compiler produced is kept in a file between starts.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from optimize.errors import LoadingFailed
from optimize.fingerprint import write_json
from optimize.torch_technique import COMPILE_FILE


def layers_to_compile(module: PreTrainedModel) -> list[nn.Module]:
    """The layers that a model repeats, as transformers names them.

    Raises:
        LoadingFailed: this architecture does not name any.
    """
    names = set(module._no_split_modules or ())
    layers = [layer for layer in module.modules() if type(layer).__name__ in names]
    if not layers:
        raise LoadingFailed(
            f"{type(module).__name__} does not say which of its layers repeat, so they cannot be "
            "compiled one for all. Serve the model without compiling it."
        )
    return layers


def compile_layers(module: PreTrainedModel) -> None:
    """Have the repeated layers compiled when they first run.

    Raises:
        LoadingFailed: this architecture does not name any.
    """
    for layer in layers_to_compile(module):
        layer.compile(dynamic=True)


def mark_compiled(folder: Path, module: PreTrainedModel) -> None:
    """Write down in a model's folder that its layers are to be compiled."""
    names = sorted({type(layer).__name__ for layer in layers_to_compile(module)})
    write_json(folder / COMPILE_FILE, {"layers": names, "torch": torch.__version__})


def compiled_file(cache_folder: Path, revision: str, device: str) -> Path:
    """Where the compiled layers of a model are kept between starts."""
    about = json.dumps([revision, device, torch.__version__])
    return cache_folder / "compiled" / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.bin"


def load_compiled(file: Path) -> None:
    """Hand the compiler what an earlier start produced; nothing where there is no such file."""
    if file.is_file():
        torch.compiler.load_cache_artifacts(file.read_bytes())


def save_compiled(file: Path) -> None:
    """Keep what the compiler produced in this process."""
    artifacts = torch.compiler.save_cache_artifacts()
    if artifacts is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}-unfinished")
        unfinished.write_bytes(artifacts[0])
        unfinished.replace(file)


class UncompiledCache(DynamicCache):
    """A cache of transformers that compiled layers call instead of taking it into their code.

    It knows layers by number, so each layer's code would be another one.
    """

    update = torch.compiler.disable(DynamicCache.update)  # type: ignore[no-untyped-call]
