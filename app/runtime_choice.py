"""Which runtime computes the model: what the settings say, or what suits the machine.

`app/commands/serve.py` asks before anything is loaded whether the settings agree; `app/loading.py`
asks for the choice. Loads neither torch nor ONNX Runtime, save to find out about a CUDA device.
"""

from app.settings import Settings
from optimize.check import CheckedFolder, CheckedModel, CheckedOnnx, CheckedProgram
from optimize.errors import ModelRefused
from optimize.placement_names import may_have_cuda
from optimize.weight_scheme import WeightScheme

DEFAULT_WEIGHTS = WeightScheme.W8A8


def check_runtime(settings: Settings, checked: CheckedModel) -> None:
    """Check that the settings agree on a runtime and suit the model.

    Raises:
        ModelRefused: they do not; names the options and says what to do.
    """
    if isinstance(checked, CheckedProgram):
        _check_program(settings, checked)
        return
    if settings.tensor_parallel_size > 1:
        _check_sharded(settings, checked)
    if settings.runtime == "torch":
        _check_torch(settings, checked)
        return
    is_exported = isinstance(checked, CheckedOnnx)
    if is_exported:
        _refuse(
            settings.weights is not None or settings.calibration is not None,
            f"{checked.name} was exported already, with its own weights: leave out --weights and "
            "--calibration, or give the model that it was made from.",
        )
    weights = settings.weights or DEFAULT_WEIGHTS
    _refuse(
        settings.calibration is not None and not weights.is_calibrated,
        f"--calibration is for weights that are calibrated, which {weights.value} is not: "
        "leave it out, or choose --weights w8a8.",
    )
    if must_be_onnx(settings, checked):
        wanted = "an exported model" if is_exported else "--runtime onnx or --weights"
        _refuse(
            settings.device not in (None, "cpu"),
            f"{wanted} is for the CPU, and --device is {settings.device}: leave one of them out.",
        )
        _refuse(
            settings.dtype is not None,
            f"{wanted} does not go with --dtype, which is torch's: "
            "choose with --weights, such as fp32.",
        )


def _check_sharded(settings: Settings, checked: CheckedModel) -> None:
    _refuse(
        must_be_onnx(settings, checked),
        "--tensor-parallel-size is for torch, which an exported model, --runtime onnx, --weights "
        "and --calibration are not: leave one of them out.",
    )


def _check_torch(settings: Settings, checked: CheckedModel) -> None:
    _refuse(
        isinstance(checked, CheckedOnnx),
        f"{checked.name} was exported for ONNX Runtime, which --runtime torch does not run: "
        "leave the option out, or give the model that it was made from.",
    )
    _refuse(
        settings.weights is not None or settings.calibration is not None,
        "--weights and --calibration are for ONNX Runtime, and --runtime is torch: leave them out, "
        "or choose --runtime onnx.",
    )


def _check_program(settings: Settings, checked: CheckedProgram) -> None:
    given = {
        "--runtime": settings.runtime == "onnx",
        "--weights": settings.weights is not None,
        "--calibration": settings.calibration is not None,
        "--dtype": settings.dtype not in (None, "float32"),
        "--device": settings.device not in (None, "cpu"),
        "--tensor-parallel-size": settings.tensor_parallel_size > 1,
    }
    wrong = [option for option, is_wrong in given.items() if is_wrong]
    _refuse(
        bool(wrong),
        f"{checked.name} is a program for torch on the CPU in float32: leave out "
        f"{' and '.join(wrong)}, or give the model that it was made from.",
    )


def _refuse(is_wrong: bool, message: str) -> None:  # noqa: FBT001  reads as a sentence
    if is_wrong:
        raise ModelRefused(message)


def must_be_onnx(settings: Settings, checked: CheckedModel) -> bool:
    """Whether somebody said so, so that torch would be wrong."""
    return (
        settings.runtime == "onnx"
        or settings.weights is not None
        or settings.calibration is not None
        or isinstance(checked, CheckedOnnx)
    )


def why_torch(settings: Settings, checked: CheckedModel) -> str | None:
    """Why torch is right from the start; None if ONNX Runtime is to be tried."""
    if settings.runtime == "torch":
        return "as --runtime says"
    if must_be_onnx(settings, checked):
        return None
    if settings.tensor_parallel_size > 1:
        return f"--tensor-parallel-size {settings.tensor_parallel_size} is torch's"
    if isinstance(checked, CheckedFolder) and checked.torch_only is not None:
        return checked.torch_only
    if settings.dtype is not None:
        return f"--dtype {settings.dtype} is a choice of torch's"
    if settings.device not in (None, "cpu"):
        return f"the device is {settings.device}"
    if settings.device is None and may_have_cuda():
        return _why_cuda()
    return None


def _why_cuda() -> str | None:
    from optimize.placement import choose_placement  # noqa: PLC0415  imports torch

    device = choose_placement(None, None).device
    return None if device == "cpu" else f"the device is {device}"
