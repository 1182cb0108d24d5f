"""What is shipped for Prometheus and Grafana, tried on a real service under a real Prometheus."""

import re
import subprocess

import httpx
import pytest

from monitoring.grafana.board import RESTARTS, ROWS
from tests.monitoring.prometheus_server import wait_until

pytestmark = pytest.mark.slow

QUERIES = [
    pytest.param(legend, query, id=f"{panel.title}: {legend}")
    for row in ROWS
    for panel in row.panels
    for legend, query in panel.queries.items()
]


def as_grafana_asks(query: str) -> str:
    """The query with the dashboard's variables filled in; the window holds all the traffic."""
    values = {"$job": "beamline", "$instance": ".*", "$__rate_interval": "5m"}
    for name, value in values.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


@pytest.mark.parametrize(("legend", "query"), QUERIES)
def test_each_query_gives_data_with_the_labels_of_its_legend(live, legend, query):
    """Here nothing is left out that a service may lack, so no panel may be empty."""
    samples = live.prometheus.query(as_grafana_asks(query))
    assert samples
    for labels, _ in samples:
        assert set(re.findall(r"{{(\w+)}}", legend)) <= labels.keys()


def test_variables_of_the_dashboard_have_values(live):
    assert live.prometheus.label_values("job", "service_ready") == ["beamline"]
    instances = live.prometheus.label_values("instance", 'service_ready{job="beamline"}')
    assert instances == [live.service.address]


def test_prometheus_has_seen_what_the_clients_saw(live):
    counts, ask = live.counts, live.prometheus
    answers = ask.query('sum by (status) (api_requests_total{job="beamline",method="POST"})')
    assert {labels["status"]: value for labels, value in answers} == counts.statuses
    assert ask.value("sum(response_cache_hits_total)") == counts.num_hits
    by_greedy = ask.value('strategy_generated_tokens_total{strategy="greedy"}')
    assert by_greedy == counts.num_greedy_tokens
    assert ask.value("sum(service_ready)") == 1


def test_all_rules_can_be_evaluated(live):
    rules = live.prometheus.rules()
    assert len(rules) > 20
    wait_until(
        lambda: all(rule["health"] != "unknown" for rule in live.prometheus.rules()),
        "every rule was evaluated",
    )
    assert [rule for rule in live.prometheus.rules() if rule["health"] != "ok"] == []


def test_promtool_has_nothing_to_say_about_the_metrics(live):
    exposition = httpx.get(f"http://{live.service.address}/metrics").content
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_alert_fires_while_the_service_is_down_and_ends_when_it_is_back(live):
    """The last one: it stops what the others ask."""
    assert "BeamlineDown" not in live.prometheus.firing()
    live.service.stop()
    wait_until(lambda: "BeamlineDown" in live.prometheus.firing(), "BeamlineDown fires")
    live.service.start()
    wait_until(lambda: "BeamlineDown" not in live.prometheus.firing(), "BeamlineDown ends")
    restarts = live.prometheus.query(as_grafana_asks(RESTARTS))
    assert [labels["instance"] for labels, _ in restarts] == [live.service.address]
