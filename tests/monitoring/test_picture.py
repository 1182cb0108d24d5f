"""The picture of the dashboard: numbers as Grafana writes them, lines where there are answers."""

import json
import math
from dataclasses import replace

import pytest

from monitoring.grafana.answers import AnsweredDashboard, AnsweredPanel, Series, Span
from monitoring.grafana.board import ROWS
from monitoring.grafana.dashboard import FILE
from monitoring.grafana.picture import draw, write
from monitoring.grafana.units import write_number

SPAN = Span(start=0.0, end=2400.0, scrape_seconds=15.0)
RISING = Series(legend="rising", points=[(10.0 * at, float(at)) for at in range(240)])
GRAPH = AnsweredPanel(
    title="Tokens", kind="timeseries", x=0, y=1, width=8, height=8, series=[RISING]
)


def axes_by_title(*panels, marks=()):
    figure = draw(AnsweredDashboard(title="Test", span=SPAN, panels=panels, marks=marks))
    return {axes.get_label(): axes for axes in figure.axes}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "s", "0"),
        (0.0042, "s", "4.2 ms"),
        (93.0, "s", "1.55 min"),
        (1234.0, "none", "1.23k"),
        (100.0, "none", "100"),
        (256 * 2.0**20, "bytes", "256 MiB"),
        (0.5, "percentunit", "50%"),
        (12.0, "reqps", "12 req/s"),
        (0.25, "ops", "0.25 ops/s"),
        (1500.0, "suffix: tok/s", "1.5k tok/s"),
    ],
)
def test_numbers_have_their_unit_and_three_digits(value, unit, text):
    assert write_number(value, unit) == text


@pytest.mark.parametrize("unit", sorted({panel.unit for row in ROWS for panel in row.panels}))
def test_each_unit_of_the_dashboard_can_be_written(unit):
    assert write_number(1.0, unit)


def test_an_unknown_unit_is_an_error():
    with pytest.raises(LookupError):
        write_number(1.0, "furlongs")


def test_a_graph_has_a_line_for_each_series_and_begins_at_zero():
    other = replace(RISING, legend="other")
    axes = axes_by_title(replace(GRAPH, series=[RISING, other]))["Tokens"]
    assert [line.get_label() for line in axes.lines] == ["rising", "other"]
    assert list(axes.lines[0].get_xydata()[5]) == [50.0, 5.0]
    assert axes.get_ylim()[0] == 0
    assert axes.get_xlim() == (SPAN.start, SPAN.end)


def test_stacked_series_stand_on_each_other():
    axes = axes_by_title(replace(GRAPH, series=[RISING, RISING], is_stacked=True))["Tokens"]
    assert list(axes.lines[1].get_xydata()[5]) == [50.0, 10.0]


def test_no_line_is_drawn_where_answers_are_missing():
    points = [*RISING.points[:10], (100.0, math.nan), *RISING.points[20:]]
    axes = axes_by_title(replace(GRAPH, series=[replace(RISING, points=points)]))["Tokens"]
    drawn = axes.lines[0].get_xydata()
    assert [at for at, (_, value) in enumerate(drawn) if math.isnan(value)] == [10]


def test_a_number_is_the_newest_that_is_one():
    points = [(0.0, 1.0), (10.0, 2.5), (20.0, math.nan)]
    series = [replace(RISING, points=points)]
    number = replace(GRAPH, title="Ready", kind="stat", unit="s", height=4, series=series)
    figure = draw(AnsweredDashboard(title="Test", span=SPAN, panels=[number], marks=()))
    assert "2.5 s" in [text.get_text() for text in figure.texts]


def test_a_panel_without_an_answer_says_so():
    axes = axes_by_title(replace(GRAPH, series=[]))["Tokens"]
    assert [text.get_text() for text in axes.texts] == ["No data"]


def test_marks_of_an_axis_are_round_in_their_unit():
    points = [(moment, 2.2 * value) for moment, value in RISING.points]  # up to nine minutes
    graph = replace(GRAPH, unit="s", series=[replace(RISING, points=points)])
    axes = axes_by_title(graph)["Tokens"]
    axes.figure.draw_without_rendering()
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert {"2.5 min", "5 min", "7.5 min"} <= set(shown)
    assert "00:10" in [label.get_text() for label in axes.get_xticklabels()]


def test_a_png_is_small_and_a_picture(tmp_path):
    dashboard = AnsweredDashboard(title="Test", span=SPAN, panels=[GRAPH], marks=())
    write(draw(dashboard), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    write(draw(dashboard), tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_restarts_are_marked_on_each_graph():
    other = replace(GRAPH, title="Steps", x=8)
    for axes in axes_by_title(GRAPH, other, marks=[600.0]).values():
        assert [line.get_xdata()[0] for line in axes.lines][-1] == 600.0


def test_panels_are_where_the_grid_has_them():
    """Of the real dashboard: no two overlap, and what is below is drawn below."""
    grid = [(panel, panel["gridPos"]) for panel in json.loads(FILE.read_text())["panels"]]
    panels = [
        replace(GRAPH, title=panel["title"], x=at["x"], y=at["y"], width=at["w"], height=at["h"])
        for panel, at in grid
        if panel["type"] != "row"
    ]
    boxes = [axes.get_position() for axes in axes_by_title(*panels).values()]
    assert len(boxes) == len(panels) > 30
    for at, box in enumerate(boxes):
        assert 0 < box.x0 < box.x1 < 1
        assert 0 < box.y0 < box.y1 < 1
        assert not any(box.overlaps(other) for other in boxes[at + 1 :])
