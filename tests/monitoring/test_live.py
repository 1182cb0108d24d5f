"""What is shipped for Prometheus and Grafana, tried on a real service under a real Prometheus."""

import re
import subprocess
from bisect import bisect_left
from collections import Counter
from math import isfinite

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import FIRST_TOKEN_BUCKETS
from monitoring.grafana.answers import Span, ask_prometheus
from monitoring.grafana.board import RESTARTS, ROWS
from monitoring.grafana.dashboard import FILE
from monitoring.grafana.picture import draw
from tests.monitoring.prometheus_server import ROOT, wait_until

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


def test_picture_shows_each_panel_with_all_that_prometheus_answers(live):
    now = live.prometheus.now()
    span = Span(start=now - 900, end=now, scrape_seconds=15.0)  # all the traffic is in it
    answered = ask_prometheus(live.prometheus.url, FILE, span=span, job="beamline")
    drawn = {axes.get_label(): axes for axes in draw(answered).axes}
    shown = [panel for panel in answered.panels if panel.kind != "row"]
    assert drawn.keys() == {panel.title for row in ROWS for panel in row.panels}
    for panel in shown:
        known = [each for each in panel.series if any(isfinite(value) for _, value in each.points)]
        assert len(drawn[panel.title].lines) == len(known) > 0, panel.title


def test_variables_of_the_dashboard_have_values(live):
    assert live.prometheus.label_values("job", "service_ready") == ["beamline"]
    instances = live.prometheus.label_values("instance", 'service_ready{job="beamline"}')
    assert instances == [live.service.address]


def test_prometheus_has_seen_what_the_clients_saw(live):
    counts, ask = live.counts, live.prometheus
    answers = ask.query('sum by (status) (api_requests_total{job="beamline",method="POST"})')
    of_bench = Counter({"200": live.bench.result["answers"]})
    assert {labels["status"]: value for labels, value in answers} == counts.statuses + of_bench
    assert ask.value("sum(response_cache_hits_total)") == counts.num_hits
    by_greedy = ask.value('strategy_generated_tokens_total{strategy="greedy"}')
    assert by_greedy == counts.num_greedy_tokens
    assert ask.value("sum(service_ready)") == 1


@pytest.fixture
def growth(live):
    """By how much series grew during the load of `beamline bench`."""
    moments = {"since": live.bench.since, "until": live.bench.until}
    return lambda series: live.prometheus.growth(series, **moments)


def test_prometheus_counts_what_bench_counted(live, growth):
    records = live.bench.result["records"]
    num_answers = live.bench.result["answers"]
    num_new_tokens = sum(record["num_new_tokens"] for record in records)
    assert num_answers == len(records)
    assert growth('api_requests_total{endpoint="/generate/stream",status="200"}') == num_answers
    assert growth("prompt_tokens_total") == sum(record["num_prompt_tokens"] for record in records)
    assert growth("generated_tokens_total") == num_new_tokens
    assert growth('strategy_generated_tokens_total{strategy="top_k"}') == num_new_tokens
    assert growth("time_to_first_token_seconds_count") == num_answers
    assert growth("inter_token_latency_seconds_count") == num_new_tokens - num_answers


def test_no_time_in_the_service_is_longer_than_bench_saw_it_outside(live, growth):
    """For every bound as many first tokens came within it as the clients had within it, or more."""
    records = live.bench.result["records"]
    first_tokens = [record["token_times"][0] - record["started_at"] for record in records]
    for bound in FIRST_TOKEN_BUCKETS:
        num_inside = growth(f'time_to_first_token_seconds_bucket{{le="{bound}"}}')
        assert num_inside >= sum(seconds <= bound for seconds in first_tokens), bound
    whole = sum(record["ended_at"] - record["started_at"] for record in records)
    durations = 'api_request_duration_seconds_sum{endpoint="/generate/stream"}'
    assert 0 < growth(durations) <= whole


def test_median_first_token_is_in_the_bucket_that_bench_says_or_the_one_below(live):
    """What lies between is the way there and back, a small part of reading these prompts."""
    since, until = live.bench.since, live.bench.until
    buckets = "time_to_first_token_seconds_bucket"
    seen = live.prometheus.value(
        f"histogram_quantile(0.5, sum by (le) ({buckets} @ {until} - {buckets} @ {since}))"
    )
    median = live.bench.result["time_to_first_token"]["percentiles"]["50"]
    assert f"{1000 * median:.1f} /" in live.bench.result["printed"]
    inside, outside = (bisect_left(FIRST_TOKEN_BUCKETS, seconds) for seconds in (seen, median))
    assert inside <= outside <= inside + 1


def test_all_rules_can_be_evaluated(live):
    rules = live.prometheus.rules()
    assert len(rules) > 20
    wait_until(
        lambda: all(rule["health"] != "unknown" for rule in live.prometheus.rules()),
        "every rule was evaluated",
    )
    assert [rule for rule in live.prometheus.rules() if rule["health"] != "ok"] == []


def test_the_page_on_monitoring_names_each_metric(live):
    page = (ROOT / "docs" / "monitoring.md").read_text()
    families = text_string_to_metric_families(httpx.get(f"{live.service.url}/metrics").text)
    names = {family.name for family in families if family.type != "unknown"}
    ours = {name for name in names if not name.startswith(("process_", "python_"))}
    shown = set(re.findall(r"`(\w+)(?:{[^}]*})?`", page))
    assert {name for name in ours if not name.endswith("_created")} - shown == set()


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
