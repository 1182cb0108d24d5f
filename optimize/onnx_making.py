"""The heavy half of `onnx_prepare`: fetches or converts a model, then exports it.

Imported only when an export has to be made: it brings in torch, transformers and the exporter.
"""

from pathlib import Path

from optimize.check import CheckedModel
from optimize.memory import require_conversion
from optimize.model_folder import find_weights, folder_revision
from optimize.onnx_calibration import CalibrationText
from optimize.onnx_export import ExportOrder, export_onnx
from optimize.prepare import locate_model
from optimize.report import Progress
from optimize.spec import ModelSpec
from optimize.threads import stay_within_cores
from optimize.weight_scheme import WeightScheme

_FLOAT_BYTES = 4  # the graph that all schemes start from is float32


def make_onnx(
    checked: CheckedModel,
    spec: ModelSpec,
    scheme: WeightScheme,
    calibration: CalibrationText,
    target: Path,
    progress: Progress,
) -> None:
    """Write the checked model as a graph into the empty folder `target`.

    Raises:
        ModelError: as `onnx_prepare.prepare_onnx`.
        OSError: the folder cannot be written.
    """
    stay_within_cores()
    located = locate_model(checked, spec, progress)
    weights = find_weights(located.folder)
    require_conversion(checked.name, target, num_bytes=weights.num_bytes(_FLOAT_BYTES))
    order = ExportOrder(
        folder=located.folder,
        name=checked.name,
        source_revision=located.revision or folder_revision(located.folder, weights),
        scheme=scheme,
        calibration=calibration,
        trust_remote_code=spec.trust_remote_code,
    )
    export_onnx(order, target, progress=progress)
