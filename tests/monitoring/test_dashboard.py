"""The dashboard that is kept is the one that its panels make."""

from monitoring.grafana.board import ROWS
from monitoring.grafana.dashboard import FILE, render


def test_the_kept_dashboard_is_not_old():
    assert FILE.read_text() == render(), "run `python -m monitoring.grafana.dashboard`"


def test_each_panel_asks_something_under_a_title_of_its_own():
    panels = [panel for row in ROWS for panel in row.panels]
    titles = [panel.title for panel in panels]
    assert len(set(titles)) == len(titles) > 30
    assert all(panel.queries and panel.description for panel in panels)
