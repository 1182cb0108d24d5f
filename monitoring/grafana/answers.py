"""The dashboard's panels with what a Prometheus answers to them, over a span of time.

Read from the JSON that Grafana gets, so nothing else decides what is asked. `picture.py` draws it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

NUM_STEPS = 240  # points of a series, about what a panel has room for
ANSWER_SECONDS = 30.0


class PrometheusError(Exception):
    """Prometheus does not answer, or refuses a query; the message has its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The time that is looked at, in seconds of the clock, and how often it is scraped."""

    start: float
    end: float
    scrape_seconds: float

    @property
    def step(self) -> float:
        """Seconds between two points."""
        return max((self.end - self.start) / NUM_STEPS, 1.0)

    @property
    def rate_interval(self) -> str:
        """Grafana's `$__rate_interval`: four scrapes at least."""
        return f"{max(self.step + self.scrape_seconds, 4 * self.scrape_seconds):.0f}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line of a graph."""

    legend: str
    points: Sequence[tuple[float, float]]  # time and value


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPanel:
    """A panel at its place in the grid, in Grafana's units."""

    title: str
    kind: str  # "row", "stat" or "timeseries"
    x: int
    y: int
    width: int
    height: int
    unit: str = "none"
    is_stacked: bool = False
    series: Sequence[Series] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredDashboard:
    """All panels, and the moments that are marked on each."""

    title: str
    span: Span
    panels: Sequence[AnsweredPanel]
    marks: Sequence[float]


def ask_prometheus(url: str, dashboard: Path, *, span: Span, job: str) -> AnsweredDashboard:
    """Ask all queries of a dashboard's file, of all instances of a job.

    Raises:
        PrometheusError: it does not answer, or refuses a query.
    """
    content = json.loads(dashboard.read_text())
    with httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as client:
        asker = _Asker(client, span, {"$job": job, "$instance": ".*"})
        marks = [
            time
            for annotation in content["annotations"]["list"]
            for series in asker.ask(annotation["expr"], annotation["name"])
            for time, _ in series.points
        ]
        panels = [_answered(panel, asker) for panel in content["panels"]]
    return AnsweredDashboard(title=content["title"], span=span, panels=panels, marks=marks)


class _Asker:
    """Asks queries of one span, with the dashboard's variables filled in."""

    def __init__(self, client: httpx.Client, span: Span, variables: Mapping[str, str]) -> None:
        self._client, self._span = client, span
        self._variables = {"$__rate_interval": span.rate_interval} | dict(variables)

    def ask(self, query: str, legend: str) -> list[Series]:
        for name, value in self._variables.items():
            query = query.replace(name, value)
        span = self._span
        asked = {"query": query, "start": span.start, "end": span.end, "step": span.step}
        try:
            answer = self._client.post("/api/v1/query_range", data=asked).json()
        except (httpx.HTTPError, ValueError) as error:
            raise PrometheusError(f"no answer from {self._client.base_url}: {error}") from error
        if answer["status"] != "success":
            raise PrometheusError(f"{query}: {answer['error']}")
        return [
            Series(
                legend=_legend(legend, found["metric"]),
                points=[(float(time), float(value)) for time, value in found["values"]],
            )
            for found in answer["data"]["result"]
        ]


def _answered(panel: Mapping[str, Any], asker: _Asker) -> AnsweredPanel:
    place = panel["gridPos"]
    series = [
        found
        for target in panel.get("targets", ())
        for found in asker.ask(target["expr"], target["legendFormat"])
    ]
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    stacking = defaults.get("custom", {}).get("stacking", {}).get("mode", "none")
    return AnsweredPanel(
        title=panel["title"],
        kind=panel["type"],
        x=place["x"],
        y=place["y"],
        width=place["w"],
        height=place["h"],
        unit=defaults.get("unit", "none"),
        is_stacked=stacking == "normal",
        series=series,
    )


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form)
