"""The commands of `beamline optimize`: one for each way to make a model smaller or faster.

Each makes a folder that `beamline serve --model` takes, with a report of what it gains and loses;
`compare` shows several reports side by side. The work is `optimize`'s.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.process.progress import terminal_progress
from app.settings import SettingsError, load_settings
from optimize.errors import ModelError
from optimize.weight_scheme import WeightScheme

if TYPE_CHECKING:  # they import ONNX Runtime, which `--help` need not wait for
    from optimize.optimization_report import Costs, OptimizationReport

FAILURE, USAGE = 1, 2
MEBIBYTE = 2**20
FILE_WIDTH = 120  # columns of a table that goes to a file

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

HELP = {
    WeightScheme.FP32: "Export to ONNX in float32, with dynamic batch and length and a KV cache.",
    WeightScheme.W8A8: "8-bit weights and activations, smoothed with calibration: the default.",
    WeightScheme.INT8: "8-bit weights in blocks of 32.",
    WeightScheme.INT4: "4-bit weights in blocks of 32; a 4-bit GGUF keeps its very weights.",
    WeightScheme.INT8_DYNAMIC: "8-bit weights, activations scaled by tensor as they come.",
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
        _make(scheme, model, output, text, calibration, cache_folder)

    def run_uncalibrated(
        *, output: Output, model: Model = None, text: Text = None, cache_folder: Cache = None
    ) -> None:
        _make(scheme, model, output, text, None, cache_folder)

    return run if scheme.is_calibrated else run_uncalibrated


for _scheme in WeightScheme:
    _name = "onnx" if _scheme is WeightScheme.FP32 else _scheme.value
    _help = HELP.get(_scheme, "8-bit weights, activations scaled by tensor with calibration.")
    optimize_app.command(_name, help=_help)(_verb(_scheme))


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
        raise _failure(str(error)) from None
    _show(make_table(reports))
    if plot is not None:
        if plot.suffix not in (".png", ".svg") or not plot.absolute().parent.is_dir():
            raise _failure(f"--plot {plot}: name a .png or .svg file in a folder that exists.")
        draw(reports, plot)


def _make(
    scheme: WeightScheme,
    model: str | None,
    output: Path,
    text: Path | None,
    calibration: Path | None,
    cache_folder: Path | None,
) -> None:
    from optimize.onnx_variant import make_onnx_variant  # noqa: PLC0415  takes seconds

    given = {"model": model, "cache_folder": cache_folder, "device": "cpu"}
    console = Console(stderr=True)
    try:
        settings = load_settings({name: value for name, value in given.items() if value})
        with ExitStack() as display:
            options = {}
            if console.is_terminal:
                options["progress"] = display.enter_context(terminal_progress(console))
            report = make_onnx_variant(
                settings.model_spec,
                scheme,
                output,
                calibration_file=calibration,
                text_file=text,
                **options,
            )
    except SettingsError as error:
        raise _failure(str(error), USAGE) from None
    except (ModelError, OSError) as error:
        raise _failure(str(error)) from None
    _show(make_table([report]))
    console.print(f"{output} is ready: beamline serve --model {output}", soft_wrap=True)


def make_table(reports: Sequence["OptimizationReport"]) -> Table:
    """The original of the first report and every variant, a row each."""
    table = Table(caption=f"tokens a second on {reports[0].processor}, {reports[0].runtime}")
    for at, name in enumerate(("", "disk", "memory", "1 stream", "batch 8", "prefill",
                               "perplexity", "KL", "top-1")):  # fmt: skip
        table.add_column(name, justify="right" if at else "left")
    first = reports[0]
    reference = f"{first.quality.reference_perplexity:.3f}"
    table.add_row(f"{first.model} (original)", *_costs(first.original), reference, "0", "100 %")
    for report in reports:
        quality = report.quality
        table.add_row(
            report.technique,
            *_costs(report.variant),
            f"{quality.perplexity:.3f}",
            f"{quality.divergence:.4f}",
            f"{quality.agreement:.1%}",
        )
    return table


def _show(table: Table) -> None:
    width = None if Console().is_terminal else FILE_WIDTH
    Console(width=width).print(table)


def draw(reports: Sequence["OptimizationReport"], file: Path) -> None:
    """Loss of quality against speed, a point for each variant and one for the original."""
    from matplotlib.figure import Figure  # noqa: PLC0415  takes a second, and few ask for it

    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    points = [("original", reports[0].original, 0.0)]
    points += [(r.technique, r.variant, r.quality.divergence) for r in reports]
    for name, costs, divergence in points:
        axis.scatter(costs.batch_8, divergence, s=costs.disk_bytes / MEBIBYTE)
        axis.annotate(name, (costs.batch_8, divergence), textcoords="offset points", xytext=(8, 4))
    axis.set(
        title=f"{reports[0].model}: up is worse, right is faster, size is that on disk",
        xlabel="new tokens a second, eight streams",
        ylabel="KL divergence from the original, nats a token",
    )
    axis.margins(0.12)
    axis.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def _costs(costs: "Costs") -> list[str]:
    sizes = [f"{size / MEBIBYTE:.0f} MiB" for size in (costs.disk_bytes, costs.memory_bytes)]
    return [*sizes, *(f"{s:.0f}" for s in (costs.one_stream, costs.batch_8, costs.prefill))]


def _failure(message: str, exit_code: int = FAILURE) -> typer.Exit:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(exit_code)
