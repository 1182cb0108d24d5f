"""What a row of the dashboard is made of: panels, each a question of who operates the service.

`rows/` writes them, `dashboard.py` gives them to Grafana's SDK. The unit says how Grafana writes
the numbers, the description how to read the answer. Queries are by legend.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.grafana.queries import quantile


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph, or a number if `is_number`, of the queries."""

    title: str
    unit: str
    description: str
    queries: Mapping[str, str]
    is_number: bool = False
    is_stacked: bool = False
    is_often_empty: bool = False  # there is nothing to see in many a service, as without a GPU


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a title."""

    title: str
    panels: tuple[Panel, ...]


def percentiles(name: str) -> dict[str, str]:
    """The median, p95 and p99 of a histogram."""
    return {
        "p50": quantile(0.5, name),
        "p95": quantile(0.95, name),
        "p99": quantile(0.99, name),
    }


def number(title: str, unit: str, description: str, query: str) -> Panel:
    """A panel of one number."""
    return Panel(title, unit, description, {title: query}, is_number=True)
