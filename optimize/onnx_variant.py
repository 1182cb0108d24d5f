"""Makes a variant of a model for ONNX Runtime in a folder of the user's, with its report.

Called by `beamline optimize`, and usable without it. The export is the one that serving makes, so
it is made once for both; the original that it is compared with is the float32 export.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort

from optimize.errors import ModelRefused
from optimize.onnx_calibration import read_calibration, read_evaluation_text
from optimize.onnx_prepare import PreparedOnnx, prepare_onnx
from optimize.onnx_quality import Quality, measure_quality
from optimize.onnx_speed import measure_costs
from optimize.optimization_report import OptimizationReport, describe_processor
from optimize.report import Progress, ignore_progress, stage
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme


def make_onnx_variant(
    spec: ModelSpec,
    scheme: WeightScheme,
    output: Path,
    *,
    calibration_file: Path | None = None,
    text_file: Path | None = None,
    progress: Progress = ignore_progress,
) -> OptimizationReport:
    """Export the model that `spec` describes into the new folder `output`, and measure it.

    Args:
        spec: the model, and the folder that keeps exports.
        scheme: how to keep the weights.
        output: made; `beamline serve --model` takes it.
        calibration_file: a UTF-8 text like those to be served, for schemes that are calibrated.
        text_file: a UTF-8 text to measure quality on; None takes this package's.
        progress: told of the stages and how far each is.

    Raises:
        ModelError: the model or a text cannot be used, or the variant differs from the original
            by more than its scheme may; nothing is left in `output` then.
    """
    if output.exists():
        raise ModelRefused(f"{output} exists already. Name a new folder.")
    text = read_calibration(text_file).text if text_file is not None else read_evaluation_text()
    original = prepare_onnx(spec, WeightScheme.FP32, progress=progress)
    variant = prepare_onnx(spec, scheme, calibration_file=calibration_file, progress=progress)
    token_ids = variant.tokenizer.encode(text)
    quality = measure_quality(
        original.folder, variant.folder, token_ids, stage(progress, "measuring quality")
    )
    report = _report(original, variant, quality, text, progress)
    _publish(variant.folder, output, report.write)
    return report


def _report(
    original: PreparedOnnx, variant: PreparedOnnx, quality: Quality, text: str, progress: Progress
) -> OptimizationReport:
    num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    costs = {
        name: measure_costs(
            prepared.folder,
            num_threads=num_threads,
            report=stage(progress, f"measuring the {name}'s speed"),
        )
        for name, prepared in (("original", original), ("variant", variant))
    }
    return OptimizationReport(
        technique=variant.manifest.scheme.value,
        model=variant.name,
        revision=variant.manifest.source_revision,
        original=costs["original"],
        variant=costs["variant"],
        quality=quality,
        text=hashlib.sha256(text.encode()).hexdigest(),
        num_threads=num_threads,
        processor=describe_processor(),
        runtime=f"onnxruntime {ort.__version__}",
    )


def _publish(source: Path, target: Path, add: Callable[[Path], None]) -> None:
    """Copy a folder, add to it, and give it its name when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".optimizing-") as scratch:
        made = Path(scratch) / target.name
        shutil.copytree(source, made)
        add(made)
        made.rename(target)
