"""Makes a variant of a model that torch runs in a folder of the user's, with its report.

Called by `beamline optimize`, and usable without it. Each technique has a module of its own; here
the original is loaded, the variant is made and checked against it, both are measured, and the
folder gets its name when all of that has succeeded.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from machine.cores import usable_cores
from optimize.check import check_model
from optimize.errors import ModelRefused
from optimize.light_tokenizer import keep_tokenizer
from optimize.model_folder import DESCRIBING_SUFFIXES, INDEX_FILE, find_weights
from optimize.onnx_calibration import read_calibration, read_evaluation_text
from optimize.opening import Setup, open_steps
from optimize.optimization_report import OptimizationReport
from optimize.placement import choose_placement
from optimize.prepare import PreparedModel, locate_model, prepare_model
from optimize.quiet_bars import quiet_bars
from optimize.report import Progress, ignore_progress
from optimize.spec import ModelSpec
from optimize.torch_compile import mark_compiled
from optimize.torch_program import has_compiler, write_program
from optimize.torch_technique import TorchTechnique
from optimize.torch_weight_only import quantize_weights, require_torchao
from optimize.variant import Text, Variant, measure_variant, publish, require_new
from optimize.variant_check import (
    COARSE_TOLERANCE,
    EXACT_TOLERANCE,
    HALF_TOLERANCE,
    check_variant,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOrder:
    """What to make of which model."""

    spec: ModelSpec
    technique: TorchTechnique
    text_file: Path | None = None  # UTF-8, to measure quality on; None takes this package's
    machine_code: bool = False  # with torch-export: compile ahead of time, for use from C++


@dataclass(frozen=True, slots=True)
class _Original:
    """The model that a variant is made from."""

    folder: Path
    prepared: PreparedModel


def make_torch_variant(
    order: TorchOrder, output: Path, *, progress: Progress = ignore_progress
) -> OptimizationReport:
    """Make the variant in the new folder `output`, and measure it beside its original.

    Raises:
        ModelError: the order cannot be carried out here, the model or the text cannot be used, or
            the variant does not give the original's results; nothing is left in `output` then.
    """
    require_new(output)
    _require_means(order)
    text = order.text_file
    content = read_calibration(text).text if text is not None else read_evaluation_text()
    located = locate_model(check_model(order.spec), order.spec, progress)
    original = _Original(located.folder, prepare_model(order.spec, progress=progress))
    reports: list[OptimizationReport] = []

    def fill(folder: Path) -> None:
        progress(f"making the {order.technique.value} variant", 0.0)
        _MAKERS[order.technique](order, original, folder)
        token_ids = original.prepared.tokenizer.encode(content)
        variant = _describe(order, original, folder)
        _check(order, variant)
        report = measure_variant(variant, Text(content=content, token_ids=token_ids), progress)
        report.write(folder)
        reports.append(report)

    publish(output, fill)
    return reports[0]


def _require_means(order: TorchOrder) -> None:
    """Refuse in a moment what could not succeed after minutes."""
    technique = order.technique
    if technique.is_weight_only:
        require_torchao()
    placement = choose_placement(order.spec.device, order.spec.dtype)
    if technique.needs_cuda and placement.device == "cpu":
        raise ModelRefused(
            f"{technique.value} has kernels for CUDA only, and the device is the CPU. Choose "
            "another --device, or use `beamline optimize int4`, which is for the CPU."
        )
    if technique.needs_cuda and placement.dtype != "bfloat16":
        raise ModelRefused(
            f"{technique.value} computes in bfloat16, and the dtype is {placement.dtype}: "
            "leave out --dtype, or use int8-weight-only."
        )
    if technique.is_program and (placement.device, placement.dtype) != ("cpu", "float32"):
        raise ModelRefused(
            f"{technique.value} writes a program for the CPU in float32, and the model would be "
            f"loaded on {placement.device} in {placement.dtype}: add --device cpu --dtype float32."
        )
    if order.machine_code and not has_compiler():
        raise ModelRefused(
            "compiling ahead of time needs a C++ compiler (g++ or clang++). "
            "Install one, or leave out --machine-code."
        )


def _describe(order: TorchOrder, original: _Original, folder: Path) -> Variant:
    prepared = original.prepared
    return Variant(
        technique=order.technique.value,
        model=prepared.name,
        revision=prepared.revision,
        original=original.folder,
        folder=folder,
        setup=Setup(num_threads=usable_cores(), device=prepared.device, dtype=prepared.dtype),
        runtime=f"torch {torch.__version__}",
    )


def _check(order: TorchOrder, variant: Variant) -> None:
    tolerance = EXACT_TOLERANCE if variant.setup.dtype == "float32" else HALF_TOLERANCE
    if order.technique.is_weight_only:
        tolerance = COARSE_TOLERANCE
    original, made = (open_steps(f, variant.setup) for f in (variant.original, variant.folder))
    check_variant(original, made, tolerance=tolerance)


def _make_weight_only(order: TorchOrder, original: _Original, folder: Path) -> None:
    placement = choose_placement(original.prepared.device, original.prepared.dtype)
    quantized = quantize_weights(
        original.folder,
        order.technique,
        placement,
        trust_remote_code=order.spec.trust_remote_code,
    )
    _copy_description(original.folder, folder)
    with quiet_bars():
        quantized.save_pretrained(folder)


def _make_compiled(_: TorchOrder, original: _Original, folder: Path) -> None:
    _copy_description(original.folder, folder)
    weights = find_weights(original.folder)
    names = [file.name for file in weights.files]
    for name in [*names, *([INDEX_FILE] if len(names) > 1 else [])]:
        shutil.copyfile(original.folder / name, folder / name)
    mark_compiled(folder, original.prepared.module)


def _make_program(order: TorchOrder, original: _Original, folder: Path) -> None:
    keep_tokenizer(original.prepared.tokenizer, folder, probe=read_evaluation_text())
    write_program(original.prepared, order.technique, folder, machine_code=order.machine_code)


def _copy_description(source: Path, target: Path) -> None:
    """Configuration, tokenizer and templates, but not the weights nor what lists them."""
    for file in source.iterdir():
        if file.suffix in DESCRIBING_SUFFIXES and file.name != INDEX_FILE and file.is_file():
            shutil.copyfile(file, target / file.name)


_MAKERS: dict[TorchTechnique, Callable[[TorchOrder, _Original, Path], None]] = {
    TorchTechnique.INT8_WEIGHT_ONLY: _make_weight_only,
    TorchTechnique.INT4_WEIGHT_ONLY: _make_weight_only,
    TorchTechnique.FP8_WEIGHT_ONLY: _make_weight_only,
    TorchTechnique.COMPILE: _make_compiled,
    TorchTechnique.TORCHSCRIPT: _make_program,
    TorchTechnique.TORCH_EXPORT: _make_program,
}
