"""Shows reports of `optimize`: a table in the terminal, and a plot of quality against speed.

Called by `optimize.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # it is imported by the time there is a report
    from optimize.optimization_report import Costs, OptimizationReport

MEBIBYTE = 2**20
FILE_WIDTH = 120  # columns of a table that goes to a file


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


def show(table: Table) -> None:
    """Print a table, to a file in a width of its own."""
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
