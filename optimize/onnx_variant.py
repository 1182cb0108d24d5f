"""Makes a variant of a model for ONNX Runtime in a folder of the user's, with its report.

Called by `beamline optimize`, and usable without it. The export is the one that serving makes, so
it is made once for both; the original that it is compared with is the float32 export.
"""

from pathlib import Path

import onnxruntime as ort

from machine.cores import usable_cores
from optimize.onnx_calibration import read_calibration, read_evaluation_text
from optimize.onnx_prepare import prepare_onnx
from optimize.opening import Setup
from optimize.optimization_report import OptimizationReport
from optimize.report import Progress, ignore_progress
from optimize.spec import ModelSpec
from optimize.variant import (
    Text,
    Variant,
    copy_into,
    measure_variant,
    publish,
    require_new,
)
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
    require_new(output)
    text = read_calibration(text_file).text if text_file is not None else read_evaluation_text()
    original = prepare_onnx(spec, WeightScheme.FP32, progress=progress)
    exported = prepare_onnx(spec, scheme, calibration_file=calibration_file, progress=progress)
    variant = Variant(
        technique=scheme.value,
        model=exported.name,
        revision=exported.manifest.source_revision,
        original=original.folder,
        folder=exported.folder,
        setup=Setup(num_threads=usable_cores()),
        runtime=f"onnxruntime {ort.__version__}",
    )
    token_ids = exported.tokenizer.encode(text)
    report = measure_variant(variant, Text(content=text, token_ids=token_ids), progress)

    def fill(folder: Path) -> None:
        copy_into(exported.folder, folder)
        report.write(folder)

    publish(output, fill)
    return report
