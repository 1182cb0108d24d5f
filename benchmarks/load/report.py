"""Shows what loads came to: a table, JSON, and a plot."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.table import Table

from benchmarks.load.result import Distribution, LoadResult

if TYPE_CHECKING:  # importing matplotlib takes a second, and few ask for a plot
    from matplotlib.axes import Axes

Loads = Mapping[str, LoadResult]  # by what they are called: "8 clients", "2.5 requests/s"

COLUMNS = ("load", "answers", "errors", "requests/s", "prompt tok/s", "new tok/s",
           "first token p50 / p99", "between tokens p50 / p99", "whole p50 / p99")  # fmt: skip


def make_table(loads: Loads) -> Table:
    """A row for each load; times in milliseconds."""
    table = Table(caption="times in milliseconds; tokens are those of whole answers")
    for at, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if at == 0 else "right")
    for name, result in loads.items():
        table.add_row(
            name,
            str(len(result.answered)),
            str(result.errors.total()),
            f"{result.requests_per_second:.2f}",
            f"{result.prompt_tokens_per_second:.0f}",
            f"{result.output_tokens_per_second:.1f}",
            *map(_ends, (result.time_to_first_token, result.inter_token, result.end_to_end)),
        )
    return table


def summarise(loads: Loads, configuration: Mapping[str, Any], *, has_records: bool) -> str:
    """Everything as JSON; times in seconds."""
    content = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "configuration": dict(configuration),
        "loads": {name: _summary(r, has_records=has_records) for name, r in loads.items()},
    }
    return json.dumps(content, indent=1, default=str)


def plot(loads: Loads, file: Path) -> None:
    """Distributions of the three latencies, and new tokens a second over time."""
    from matplotlib.figure import Figure  # noqa: PLC0415  as above

    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    for name, result in loads.items():
        answered = result.answered
        _cumulate(axes[0], name, [r.time_to_first_token for r in answered if r.token_times])
        _cumulate(axes[1], name, [gap for r in answered for gap in r.gaps])
        _cumulate(axes[2], name, [r.ended_at - r.started_at for r in answered])
        counts = Counter(int(time) for record in answered for time in record.token_times)
        seconds = range(max(counts, default=-1) + 1)
        axes[3].plot(seconds, [counts[second] for second in seconds], label=name)
    titles = ("time to first token", "time between tokens", "time of a whole answer")
    for axis, title in zip(axes, titles, strict=False):
        axis.set(title=title, xlabel="milliseconds", ylabel="share of all", xscale="log")
    axes[3].set(
        title="new tokens over time", xlabel="second", ylabel="tokens in it", ylim=(0, None)
    )
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(file, dpi=120)


def _cumulate(axis: "Axes", name: str, seconds: Sequence[float]) -> None:
    ranked = sorted(seconds)
    shares = [(at + 1) / len(ranked) for at in range(len(ranked))]
    axis.plot([1000 * second for second in ranked], shares, label=name)


def _ends(distribution: Distribution | None) -> str:
    if distribution is None:
        return "-"
    middle, last = (1000 * distribution.percentiles[p] for p in (50, 99))
    return f"{middle:.1f} / {last:.1f}"


def _summary(result: LoadResult, *, has_records: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "seconds": result.seconds,
        "answers": len(result.answered),
        "errors": dict(result.errors),
        "requests_per_second": result.requests_per_second,
        "prompt_tokens_per_second": result.prompt_tokens_per_second,
        "output_tokens_per_second": result.output_tokens_per_second,
    }
    for name in ("time_to_first_token", "inter_token", "end_to_end"):
        distribution: Distribution | None = getattr(result, name)
        content[name] = None if distribution is None else asdict(distribution)
    if has_records:
        content["records"] = [asdict(record) for record in result.records]
    return content


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("beamline", "aiohttp")},
    }
