"""What was measured, as tables in Markdown: speeds of each peer, and our ratios to them."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.peers.measure import Measured, ratios

MEBIBYTE = 2**20


def summarise(measured: Measured, scenarios: Sequence[str], ours: str) -> str:
    """Medians with the least and the greatest of all rounds; failures by name."""
    peers = list(dict.fromkeys(name for name, _ in measured.speeds))
    others = [name for name in peers if name != ours]
    parts = [
        "Tokens a second (prompt tokens for prefill), median [least - greatest]:\n",
        _table(["", *scenarios, "memory, MiB"], (_speeds(measured, n, scenarios) for n in peers)),
        f"\n{ours} against each, round by round:\n",
        _table(["", *scenarios], (_ratios(measured, ours, n, scenarios) for n in others)),
        "\nHow an answer begins:\n",
        *(f"- {name}: {text!r}" for name, text in measured.samples.items()),
    ]
    if measured.failures:
        parts += ["\nNot measured:\n"]
        parts += [f"- {name}: {reason}" for name, reason in measured.failures.items()]
    return "\n".join(parts)


def _speeds(measured: Measured, name: str, scenarios: Sequence[str]) -> list[str]:
    cells = [_spread(measured.speeds.get((name, scenario), ()), 0) for scenario in scenarios]
    return [name, *cells, str(measured.memory_bytes.get(name, 0) // MEBIBYTE)]


def _ratios(measured: Measured, ours: str, name: str, scenarios: Sequence[str]) -> list[str]:
    return [name, *(_spread(ratios(measured, ours, name, one), 2) for one in scenarios)]


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f} - {high:.{digits}f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
