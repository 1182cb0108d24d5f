"""Opens a folder for measuring, whatever kind of model is in it. Used by `speed` and `variant`."""

from dataclasses import dataclass
from pathlib import Path

from optimize.onnx_manifest import ONNX_MANIFEST_FILE
from optimize.program_manifest import PROGRAM_MANIFEST_FILE
from optimize.steps import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a model is measured on."""

    num_threads: int  # of a CPU
    device: str = "cpu"
    dtype: str = "float32"  # of what torch computes; ONNX Runtime takes what the graph says
    trust_remote_code: bool = False


def open_steps(folder: Path, setup: Setup) -> Steps:
    """The model in `folder`: exported for ONNX Runtime, a program of torch, or transformers'.

    Raises:
        ModelError: it cannot be opened.
    """
    # Each kind imports a runtime of its own, and only one of them is needed.
    if (folder / ONNX_MANIFEST_FILE).is_file():
        from optimize.onnx_steps import OnnxSteps  # noqa: PLC0415

        return OnnxSteps(folder, num_threads=setup.num_threads)
    if (folder / PROGRAM_MANIFEST_FILE).is_file():
        from optimize.program_steps import open_program_steps  # noqa: PLC0415

        return open_program_steps(folder, setup.num_threads)
    from optimize.module_steps import open_module_steps  # noqa: PLC0415
    from optimize.placement import choose_placement  # noqa: PLC0415

    placement = choose_placement(setup.device, setup.dtype)
    return open_module_steps(
        folder, placement, num_threads=setup.num_threads, trust_remote_code=setup.trust_remote_code
    )
