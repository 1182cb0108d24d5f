"""Writes `dashboards/beamline.json` from the panels: `python -m monitoring.grafana.dashboard`.

Through Grafana's own SDK, which knows what the JSON may hold. Never edit the JSON: a test compares.
"""

import json
from pathlib import Path

from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.builders.dashboard import Row as RowBuilder
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Number
from grafana_foundation_sdk.builders.timeseries import Panel as Graph
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery as Query
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
)

from monitoring.grafana.board import RESTARTS, ROWS
from monitoring.grafana.panel import Panel

FILE = Path(__file__).parent / "dashboards" / "beamline.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GRAPH_WIDTH, GRAPH_HEIGHT = 8, 8  # of 24 columns
NUMBER_WIDTH, NUMBER_HEIGHT = 4, 4
ALL = VariableOption(text="All", value="$__all")


def build_dashboard() -> Dashboard:
    """The dashboard with its variables, marks and rows."""
    dashboard = (
        Dashboard("Beamline")
        .uid("beamline")
        .description("The inference service: traffic, latency, batch, caches, errors, process.")
        .tags(["beamline", "inference"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "label_values(service_ready, job)"))
        .with_variable(
            _variable("instance", 'label_values(service_ready{job="$job"}, instance)')
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".*")
            .current(ALL)
        )
        .annotation(
            AnnotationQuery()
            .name("Restarts")
            .datasource(SOURCE)
            .enable(enable=True)
            .icon_color("orange")
            .expr(RESTARTS)
        )
    )
    for row in ROWS:
        dashboard.with_row(RowBuilder(row.title))
        for panel in row.panels:
            dashboard.with_panel(_number(panel) if panel.is_number else _graph(panel))
    return dashboard


def render() -> str:
    """The file's text."""
    built = build_dashboard().build()
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variable(name: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _queries(panel: Panel) -> list[Builder[Query]]:
    return [
        Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + at))
        for at, (legend, query) in enumerate(panel.queries.items())
    ]


def _number(panel: Panel) -> Number:
    return (
        Number()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .span(NUMBER_WIDTH)
        .height(NUMBER_HEIGHT)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .targets(_queries(panel))
    )


def _graph(panel: Panel) -> Graph:
    graph = (
        Graph()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .span(GRAPH_WIDTH)
        .height(GRAPH_HEIGHT)
        .fill_opacity(30 if panel.is_stacked else 8)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .targets(_queries(panel))
    )
    if panel.is_stacked:
        graph.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return graph


if __name__ == "__main__":
    FILE.write_text(render())
