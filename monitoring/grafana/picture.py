"""Draws the dashboard from what a Prometheus answers: `python -m monitoring.grafana.picture URL`.

For documents, and for machines without a Grafana. The panels, their places, queries, units and
legends are those of the dashboard's file; colours and letters are ours, as it is not Grafana that
draws. Needs matplotlib, of the extra `dev`.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

from monitoring.grafana.answers import (
    AnsweredDashboard,
    AnsweredPanel,
    Series,
    Span,
    ask_prometheus,
)
from monitoring.grafana.dashboard import FILE
from monitoring.grafana.units import size_of_unit, write_number

DPI = 100
CELL_WIDTH, CELL_HEIGHT = 0.62, 0.29  # inches of a cell of Grafana's grid of 24 columns
MARGIN = 0.25  # inches around everything
HEAD = 0.65  # inches for the title
GAP = 0.05  # inches between a panel and the border of its cells
PAPER, PANEL, LINES, INK, PALE = "#f4f5f7", "#ffffff", "#e3e5e9", "#24292e", "#6a737d"
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#e02f44", "#a352cc", "#b8a000", "#0f9ba8", "#8f5c2e")
MARK = "#ff9830"
MAX_LEGENDS = 6
TICK_SECONDS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400)
NUM_COLOURS = 128  # of a PNG: with so few it is a third as large and looks the same


def draw(dashboard: AnsweredDashboard) -> Figure:
    """All panels in their grid."""
    columns = max(panel.x + panel.width for panel in dashboard.panels)
    rows = max(panel.y + panel.height for panel in dashboard.panels)
    width = columns * CELL_WIDTH + 2 * MARGIN
    height = rows * CELL_HEIGHT + 2 * MARGIN + HEAD
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    _draw_title(figure, dashboard)
    for panel in dashboard.panels:
        _Place(figure, panel).draw(dashboard.span, dashboard.marks)
    return figure


class _Place:
    """Where a panel is on the figure, in inches from its lower left corner."""

    def __init__(self, figure: Figure, panel: AnsweredPanel) -> None:
        self._figure, self._panel = figure, panel
        self._whole = figure.get_size_inches()
        top = float(self._whole[1]) - MARGIN - HEAD - panel.y * CELL_HEIGHT
        self._left = MARGIN + panel.x * CELL_WIDTH + GAP
        self._bottom = top - panel.height * CELL_HEIGHT + GAP
        self._width = panel.width * CELL_WIDTH - 2 * GAP
        self._height = panel.height * CELL_HEIGHT - 2 * GAP

    def draw(self, span: Span, marks: Sequence[float]) -> None:
        """The panel, whatever its kind."""
        if self._panel.kind == "row":
            self._write(self._panel.title, 0.02, self._height / 2, size=11, weight="bold")
            return
        self._draw_frame()
        self._write(self._panel.title, 0.1, self._height - 0.17, size=9, weight="bold")
        if self._panel.kind == "stat":
            self._draw_number(span)
        else:
            self._draw_graph(span, marks)

    def _draw_frame(self) -> None:
        frame = FancyBboxPatch(
            (self._left, self._bottom),
            self._width,
            self._height,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=PANEL,
            edgecolor=LINES,
            linewidth=0.8,
            transform=self._figure.dpi_scale_trans,
            zorder=-1,  # below what is in it
        )
        self._figure.add_artist(frame)

    def _draw_number(self, span: Span) -> None:
        points = [point for series in self._panel.series for point in _known(series)]
        text = write_number(points[-1][1], self._panel.unit) if points else "No data"
        self._write(text, self._width / 2, self._height * 0.52, size=17, weight="bold", at="center")
        axes = self._axes(left=0.0, bottom=0.02, right=0.0, top=self._height * 0.72)
        axes.axis("off")
        axes.set_label(self._panel.title)
        if points:
            times, values = zip(*points, strict=True)
            axes.plot(times, values, color=COLOURS[2], linewidth=1)
            axes.fill_between(times, values, color=COLOURS[2], alpha=0.15, linewidth=0)
            axes.set(xlim=(span.start, span.end), ylim=(0, max(*values, 1e-9) * 1.1))

    def _draw_graph(self, span: Span, marks: Sequence[float]) -> None:
        axes = self._axes(left=0.78, bottom=0.56, right=0.14, top=0.36)
        axes.set_label(self._panel.title)
        series = [each for each in self._panel.series if _known(each)]
        _plot(axes, series, span.step, is_stacked=self._panel.is_stacked)
        for moment in marks:
            axes.axvline(moment, color=MARK, linewidth=1, linestyle=(0, (4, 3)))
        _rule(axes, span, self._panel.unit)
        if not series:
            axes.text(0.5, 0.5, "No data", color=PALE, ha="center", transform=axes.transAxes)
            return
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.13),
            ncols=min(len(series), MAX_LEGENDS // 2 if _are_long(series) else MAX_LEGENDS),
            fontsize=7,
            frameon=False,
            handlelength=1.0,
            columnspacing=1.2,
            labelcolor=INK,
            borderpad=0.0,
        )

    def _axes(self, *, left: float, bottom: float, right: float, top: float) -> Axes:
        """Axes with so many inches around them inside the panel."""
        width, height = self._whole
        return self._figure.add_axes(
            (
                (self._left + left) / width,
                (self._bottom + bottom) / height,
                (self._width - left - right) / width,
                (self._height - bottom - top) / height,
            ),
            facecolor=PANEL,
        )

    def _write(
        self, text: str, x: float, y: float, *, size: float, weight: str, at: str = "left"
    ) -> None:
        self._figure.text(
            self._left + x,
            self._bottom + y,
            text,
            fontsize=size,
            fontweight=weight,
            color=INK,
            ha=at,
            va="center",
            transform=self._figure.dpi_scale_trans,
        )


def _draw_title(figure: Figure, dashboard: AnsweredDashboard) -> None:
    top = figure.get_size_inches()[1] - MARGIN
    at = figure.dpi_scale_trans
    figure.text(
        MARGIN + GAP, top - 0.2, dashboard.title, fontsize=17, fontweight="bold", color=INK,
        va="center", transform=at,
    )  # fmt: skip
    span = dashboard.span
    day = datetime.fromtimestamp(span.start, UTC).date()
    minutes = round((span.end - span.start) / 60)
    words = f"{day}, {_clock(span.start)} to {_clock(span.end)} UTC ({minutes} min)"
    right = figure.get_size_inches()[0] - MARGIN - GAP
    figure.text(right, top - 0.2, words, fontsize=10, color=PALE, ha="right", va="center",
                transform=at)  # fmt: skip


def _plot(axes: Axes, series: Sequence[Series], step: float, *, is_stacked: bool) -> None:
    """Lines, or areas on top of each other."""
    floor: dict[float, float] = {}
    for each, colour in zip(series, cycle(COLOURS), strict=False):
        points = list(_with_gaps(_known(each), step))
        times = [moment for moment, _ in points]
        lower = [floor.get(moment, 0.0) if is_stacked else 0.0 for moment in times]
        upper = [below + value for below, (_, value) in zip(lower, points, strict=True)]
        floor.update(zip(times, upper, strict=True))
        axes.plot(times, upper, color=colour, linewidth=1.2, label=each.legend)
        fill = 0.35 if is_stacked else 0.08
        axes.fill_between(times, lower, upper, color=colour, alpha=fill, linewidth=0)


def _rule(axes: Axes, span: Span, unit: str) -> None:
    axes.set_xlim(span.start, span.end)
    largest = axes.dataLim.y1
    top = 1.08 * largest if math.isfinite(largest) and largest > 0 else 1.0
    size = size_of_unit(top, unit)
    marks = [size * each for each in MaxNLocator(4).tick_values(0, top / size)]
    axes.set_yticks(marks if largest > 0 else [0.0])
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write_number(value, unit)))
    seconds = next((s for s in TICK_SECONDS if (span.end - span.start) / s <= 6), TICK_SECONDS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(seconds))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _clock(value)))
    axes.tick_params(labelsize=7, colors=PALE, length=0)
    axes.grid(color=LINES, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _known(series: Series) -> list[tuple[float, float]]:
    """Its points without those that are no number, as a quantile of nothing."""
    return [point for point in series.points if math.isfinite(point[1])]


def _with_gaps(points: Sequence[tuple[float, float]], step: float) -> Iterator[tuple[float, float]]:
    """With a point that is no number wherever some are missing, so that no line is drawn there."""
    for (before, _), point in zip([(math.inf, 0.0), *points], points, strict=False):
        if point[0] - before > 1.5 * step:
            yield before + step, math.nan
        yield point


def _are_long(series: Sequence[Series]) -> bool:
    return max(len(each.legend) for each in series) > 12


def _clock(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M}"


def write(figure: Figure, file: Path) -> None:
    """Write it as PNG, or as what the file's name says else."""
    if file.suffix != ".png":
        figure.savefig(file)
        return
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(NUM_COLOURS).save(file, optimize=True)


def main() -> None:
    """Ask, draw, and write a PNG or SVG file."""
    parser = argparse.ArgumentParser(description="Draw the dashboard from a Prometheus's answers.")
    parser.add_argument("url", help="where Prometheus listens")
    parser.add_argument("--output", type=Path, default=Path("docs/images/dashboard.png"))
    parser.add_argument("--job", default="beamline", help="whose metrics")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back")
    parser.add_argument("--scrape-seconds", type=float, default=15.0, help="as Prometheus does it")
    given = parser.parse_args()
    now = time.time()
    span = Span(start=now - 60 * given.minutes, end=now, scrape_seconds=given.scrape_seconds)
    write(draw(ask_prometheus(given.url, FILE, span=span, job=given.job)), given.output)


if __name__ == "__main__":
    main()
