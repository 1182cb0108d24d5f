"""Writes a model as a program that runs without its Python code: TorchScript or `torch.export`.

Called by `torch_variant`; `ragged_module` says what goes in and out. What was written is read again
and compared with the model on rows, lengths and pasts that tracing has not seen.
"""

import inspect
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from optimize.errors import LoadingFailed, VariantDiffers
from optimize.foreign_errors import translated
from optimize.prepare import PreparedModel
from optimize.program_manifest import COMPILED_FILE, PROGRAM_FILES, ProgramManifest
from optimize.ragged_module import Outputs, RaggedModule
from optimize.torch_technique import TorchTechnique

Program = Callable[[Tensor, Tensor, Tensor, Tensor], Outputs]
TOLERANCE = 5e-4  # of the logits' standard deviation
_MOST_ROWS = 4096
_TRACED = (3, 5, 7)  # rows, new tokens, positions of past
_TRIED = ((1, 9, 0), (1, 1, 1), (2, 1, 12), (5, 1, 40), (1, 30, 20))


def write_program(
    prepared: PreparedModel, technique: TorchTechnique, folder: Path, *, machine_code: bool
) -> ProgramManifest:
    """Write the program of a model on the CPU into `folder`, with its manifest.

    Args:
        prepared: the model.
        technique: which form.
        folder: exists.
        machine_code: compile it ahead of time as well, for use from C++; with `torch.export`.

    Raises:
        LoadingFailed: the model's code cannot be traced.
        VariantDiffers: the program gives other results than the model.
    """
    manifest = _describe(prepared, technique)
    wrapped = RaggedModule(prepared.module).eval()
    with translated(lambda reason: _untraceable(prepared.name, technique, reason)):
        _require_last_logits(prepared)
        with torch.inference_mode(mode=False), torch.no_grad(), _without_tracing_chatter():
            _write(wrapped, technique, manifest, folder, machine_code=machine_code)
    manifest.write(folder)
    _compare(wrapped, load_program(folder, manifest), manifest)
    if machine_code:
        compiled = torch._inductor.aoti_load_package(str(folder / COMPILED_FILE))
        _compare(wrapped, compiled, manifest)
    return manifest


def load_program(folder: Path, manifest: ProgramManifest) -> Program:
    """The program in `folder`, ready to be called.

    Raises:
        LoadingFailed: this torch cannot read it.
    """
    path = folder / manifest.file
    with translated(lambda reason: LoadingFailed(f"torch cannot read {path} ({reason}).")):
        if manifest.technique is TorchTechnique.TORCHSCRIPT:
            with _without_tracing_chatter():
                script: Program = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            return script
        program: Program = torch.export.load(path).module()
        return program


def has_compiler() -> bool:
    """Whether a C++ compiler is there to make machine code."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def _describe(prepared: PreparedModel, technique: TorchTechnique) -> ProgramManifest:
    shape = _cache_shape(prepared)
    return ProgramManifest(
        technique=technique,
        num_layers=shape[0],
        num_kv_heads=shape[1],
        head_dim=shape[2],
        vocab_size=int(prepared.module.config.get_text_config(decoder=True).vocab_size),
        context_length=prepared.context_length,
        eos_token_ids=tuple(sorted(prepared.eos_token_ids)),
        source_revision=prepared.revision,
        torch_version=torch.__version__,
    )


def _cache_shape(prepared: PreparedModel) -> tuple[int, int, int]:
    """Layers, key heads and values a head, as the model fills its own cache."""
    with (
        translated(lambda reason: LoadingFailed(f"{prepared.name}: {reason}")),
        torch.inference_mode(),
    ):
        cache = prepared.module(input_ids=torch.zeros((1, 1), dtype=torch.int64)).past_key_values
        shapes = {(layer.keys.shape, layer.values.shape) for layer in cache.layers}
    if len(shapes) != 1 or len(set(*shapes)) != 1:
        raise LoadingFailed(
            f"{prepared.name} keeps keys and values of different shapes, which a program of four "
            "tensors cannot. Serve the model with torch as it is."
        )
    (keys, _) = shapes.pop()
    return len(cache.layers), int(keys[1]), int(keys[3])


def _require_last_logits(prepared: PreparedModel) -> None:
    if "logits_to_keep" not in inspect.signature(prepared.module.forward).parameters:
        raise LoadingFailed(
            f"{type(prepared.module).__name__} cannot be asked for its last logits only. "
            "Serve the model with torch as it is."
        )


def _write(
    wrapped: RaggedModule,
    technique: TorchTechnique,
    manifest: ProgramManifest,
    folder: Path,
    *,
    machine_code: bool,
) -> None:
    example = _inputs(manifest, *_TRACED)
    path = folder / PROGRAM_FILES[technique]
    if technique is TorchTechnique.TORCHSCRIPT:
        trace = torch.jit.trace(wrapped, example, check_trace=False)  # type: ignore[no-untyped-call]
        trace.save(path)
        return
    rows = Dim("rows", min=1, max=_MOST_ROWS)
    tokens = Dim("tokens", min=1, max=manifest.context_length)
    past = Dim("past", min=0, max=manifest.context_length)
    exported = torch.export.export(
        wrapped,
        example,
        dynamic_shapes=({0: rows, 1: tokens}, {0: rows}, {1: rows, 3: past}, {1: rows, 3: past}),
        strict=False,
    )
    torch.export.save(exported, path)
    if machine_code:
        torch._inductor.aoti_compile_and_package(exported, package_path=str(folder / COMPILED_FILE))


def _inputs(
    manifest: ProgramManifest, num_rows: int, num_tokens: int, num_past: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_rows * 31 + num_past)
    shape = (manifest.num_layers, num_rows, manifest.num_kv_heads, num_past, manifest.head_dim)
    return (
        torch.randint(manifest.vocab_size, (num_rows, num_tokens), generator=generator),
        torch.randint(num_past + 1, (num_rows,), generator=generator),
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
    )


def _compare(wrapped: RaggedModule, program: Program, manifest: ProgramManifest) -> None:
    for sizes in _TRIED:
        inputs = _inputs(manifest, *sizes)
        with torch.no_grad():
            for want, got in zip(wrapped(*inputs), program(*inputs), strict=True):
                off = float((want - got).abs().max() / want.std().clamp(min=1e-6))
                if not off <= TOLERANCE:
                    raise VariantDiffers(
                        f"the {manifest.technique.value} program gives other results than the "
                        f"model (off by {off:.2g} standard deviations at {sizes[0]} rows of "
                        f"{sizes[1]} tokens), so it was not kept. Serve the model as it is."
                    )


def _untraceable(name: str, technique: TorchTechnique, reason: str) -> LoadingFailed:
    return LoadingFailed(
        f"{name} cannot be written as {technique.value} ({reason[:300]}). "
        "Serve the model with torch as it is, or try the other form."
    )


@contextmanager
def _without_tracing_chatter() -> Iterator[None]:
    """Tracing warns of each shape it fixes; the comparison afterwards shows if one mattered.

    TorchScript also warns that torch.export is its successor, which our documentation says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
