"""The commands of `beamline optimize`: one for each way to make a model smaller or faster.

Each makes a folder that `beamline serve --model` takes, with a report of what it gains and loses;
`compare` shows several reports side by side. The work is `optimize`'s.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from app.commands.failure import USAGE, failure
from app.commands.optimize_report import draw, make_table, show
from app.environment import limit_spinning
from app.process.progress import terminal_progress
from app.settings import SettingsError, load_settings
from optimize.errors import ModelError
from optimize.report import ignore_progress
from optimize.torch_technique import TorchTechnique
from optimize.weight_scheme import WeightScheme

if TYPE_CHECKING:  # they import ONNX Runtime, which `--help` need not wait for
    from optimize.optimization_report import OptimizationReport
    from optimize.report import Progress
    from optimize.spec import ModelSpec

    Make = Callable[[ModelSpec, Progress], OptimizationReport]

Given = dict[str, str | Path | None]

optimize_app = typer.Typer(
    no_args_is_help=True,
    help="Make a model smaller or faster, and measure what that costs in quality.",
)

Model = Annotated[str | None, typer.Option(help="Hub id, folder or GGUF file, as for serve.")]
Output = Annotated[Path, typer.Option(help="The new folder to make.")]
Text = Annotated[Path | None, typer.Option(help="UTF-8 text to measure quality on.")]
Calibration = Annotated[
    Path | None, typer.Option(help="UTF-8 text to calibrate with, like those to be served.")
]
Cache = Annotated[Path | None, typer.Option(help="Where exports are kept.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
MachineCode = Annotated[
    bool, typer.Option("--machine-code", help="Compile it ahead of time too, for use from C++.")
]

HELP = {
    WeightScheme.FP32: "Export to ONNX in float32, with dynamic batch and length and a KV cache.",
    WeightScheme.W8A8: "8-bit weights and activations, smoothed with calibration: the default.",
    WeightScheme.INT8: "8-bit weights in blocks of 32.",
    WeightScheme.INT4: "4-bit weights in blocks of 32; a 4-bit GGUF keeps its very weights.",
    WeightScheme.INT8_DYNAMIC: "8-bit weights, activations scaled by tensor as they come.",
}


TORCH_HELP = {
    TorchTechnique.INT8_WEIGHT_ONLY: "8-bit weights through torchao, for torch on any device.",
    TorchTechnique.INT4_WEIGHT_ONLY: "4-bit weights in groups through torchao, for CUDA.",
    TorchTechnique.FP8_WEIGHT_ONLY: "8-bit float weights through torchao, for CUDA above all.",
    TorchTechnique.COMPILE: "Layers compiled by torch.compile, once for all starts.",
    TorchTechnique.TORCHSCRIPT: "A TorchScript trace with batch, length and KV cache, for C++.",
    TorchTechnique.TORCH_EXPORT: "A torch.export program with batch, length and KV cache.",
}


def _verb(scheme: WeightScheme) -> Callable[..., None]:
    """The command of a scheme; only calibrated ones take a calibration text."""

    def run(
        *,
        output: Output,
        model: Model = None,
        text: Text = None,
        calibration: Calibration = None,
        cache_folder: Cache = None,
    ) -> None:
        _make_onnx(scheme, model, output, text, calibration, cache_folder)

    def run_uncalibrated(
        *, output: Output, model: Model = None, text: Text = None, cache_folder: Cache = None
    ) -> None:
        _make_onnx(scheme, model, output, text, None, cache_folder)

    return run if scheme.is_calibrated else run_uncalibrated


def _torch_verb(technique: TorchTechnique) -> Callable[..., None]:
    """The command of a technique of torch's; programs are for the CPU in float32 only."""

    def run(
        *,
        output: Output,
        model: Model = None,
        text: Text = None,
        device: Device = None,
        dtype: Dtype = None,
        cache_folder: Cache = None,
    ) -> None:
        given = {"model": model, "device": device, "dtype": dtype, "cache_folder": cache_folder}
        _make_torch(technique, given, output, text, machine_code=False)

    def run_program(
        *, output: Output, model: Model = None, text: Text = None, cache_folder: Cache = None
    ) -> None:
        _make_torch(technique, _on_cpu(model, cache_folder), output, text, machine_code=False)

    def run_export(
        *,
        output: Output,
        model: Model = None,
        text: Text = None,
        machine_code: MachineCode = False,
        cache_folder: Cache = None,
    ) -> None:
        given = _on_cpu(model, cache_folder)
        _make_torch(technique, given, output, text, machine_code=machine_code)

    if technique is TorchTechnique.TORCH_EXPORT:
        return run_export
    return run_program if technique.is_program else run


for _scheme in WeightScheme:
    _name = "onnx" if _scheme is WeightScheme.FP32 else _scheme.value
    _help = HELP.get(_scheme, "8-bit weights, activations scaled by tensor with calibration.")
    optimize_app.command(_name, help=_help)(_verb(_scheme))
for _technique in TorchTechnique:
    optimize_app.command(_technique.value, help=TORCH_HELP[_technique])(_torch_verb(_technique))


@optimize_app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders that the other commands made.")],
    *,
    plot: Annotated[Path | None, typer.Option(help="Draw quality against speed to this.")] = None,
) -> None:
    """Show the reports of several variants side by side."""
    from optimize.optimization_report import read_report  # noqa: PLC0415  as below

    try:
        reports = [read_report(folder) for folder in folders]
    except ModelError as error:
        raise failure(str(error)) from None
    show(make_table(reports))
    if plot is not None:
        if plot.suffix not in (".png", ".svg") or not plot.absolute().parent.is_dir():
            raise failure(f"--plot {plot}: name a .png or .svg file in a folder that exists.")
        draw(reports, plot)


def _on_cpu(model: str | None, cache_folder: Path | None) -> Given:
    return {"model": model, "device": "cpu", "dtype": "float32", "cache_folder": cache_folder}


def _make_onnx(
    scheme: WeightScheme,
    model: str | None,
    output: Path,
    text: Path | None,
    calibration: Path | None,
    cache_folder: Path | None,
) -> None:
    def make(spec: "ModelSpec", progress: "Progress") -> "OptimizationReport":
        from optimize.onnx_variant import make_onnx_variant  # noqa: PLC0415  takes seconds

        return make_onnx_variant(
            spec,
            scheme,
            output,
            calibration_file=calibration,
            text_file=text,
            progress=progress,
        )

    _make({"model": model, "device": "cpu", "cache_folder": cache_folder}, output, make)


def _make_torch(
    technique: TorchTechnique,
    given: Given,
    output: Path,
    text: Path | None,
    *,
    machine_code: bool,
) -> None:
    def make(spec: "ModelSpec", progress: "Progress") -> "OptimizationReport":
        from optimize.torch_variant import TorchOrder, make_torch_variant  # noqa: PLC0415

        order = TorchOrder(
            spec=spec, technique=technique, text_file=text, machine_code=machine_code
        )
        return make_torch_variant(order, output, progress=progress)

    _make(given, output, make)


def _make(given: Given, output: Path, make: "Make") -> None:
    """Make a variant under a progress bar and show its report; a mistake in one line."""
    console = Console(stderr=True)
    try:
        limit_spinning()
        settings = load_settings({name: value for name, value in given.items() if value})
        with ExitStack() as display:
            progress: Progress = ignore_progress
            if console.is_terminal:
                progress = display.enter_context(terminal_progress(console))
            report = make(settings.model_spec, progress)
    except SettingsError as error:
        raise failure(str(error), USAGE) from None
    except (ModelError, OSError) as error:
        raise failure(str(error)) from None
    show(make_table([report]))
    console.print(f"{output} is ready: beamline serve --model {output}", soft_wrap=True)
