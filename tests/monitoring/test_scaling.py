"""What the autoscalers of k8s/ ask of Prometheus, asked of a real one about two real replicas.

It gives the targets the labels that the Prometheus operator gives them. What an autoscaler makes of
the answer, and of none, is its own affair; which answer it gets is shown here.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import yaml

from tests.monitoring import bench, plugin, prometheus_server
from tests.monitoring.prometheus_server import ROOT, PrometheusServer, wait_until
from tests.monitoring.service import Service

pytestmark = pytest.mark.slow

COMPONENTS = ROOT / "k8s" / "components"
PODS = ("beamline-0", "beamline-1")
OPTIONS = ("--runtime", "torch", "--max-rows", "1")
NUM_CLIENTS = 5  # of which one is served, a token a second, and not to its end
LONG = ("--new-tokens", "1000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Services by the names of their pods, and the Prometheus that scrapes them."""

    services: dict[str, Service]
    prometheus: PrometheusServer


@pytest.fixture(scope="module")
def replicas(tmp_path_factory) -> Iterator[Replicas]:
    """The first has one request in its batch and four in its queue, the other has none."""
    if prometheus_server.BINARY is None:
        pytest.skip("needs prometheus (Debian's package)")
    packages = tmp_path_factory.mktemp("packages")
    plugin.install(packages, obstacle=packages / "obstacle")
    settings = {"PYTHONPATH": str(packages)}
    services = {
        pod: Service(tmp_path_factory.mktemp(pod), *OPTIONS, settings=settings) for pod in PODS
    }
    targets = {
        service.address: {"namespace": "beamline", "pod": pod} for pod, service in services.items()
    }
    busy = services[PODS[0]]
    prometheus = PrometheusServer(tmp_path_factory.mktemp("prometheus"), targets)
    with ExitStack() as undo:
        undo.callback(prometheus.close)
        key = busy.add_key("alice")
        services[PODS[1]].add_key("alice")
        for service in services.values():
            undo.callback(service.stop)
            service.start()
        prometheus.start()
        clients = ("--concurrency", str(NUM_CLIENTS), "--requests", str(NUM_CLIENTS))
        slow = {"strategy": "dawdles", "seconds": 1.0}
        undo.enter_context(bench.load(busy.url, *clients, *LONG, key=key, body=slow))
        queue = f'waiting_requests{{pod="{PODS[0]}"}}'
        wait_until(lambda: prometheus.value(queue) == NUM_CLIENTS - 1, "the queue is there")
        prometheus.wait_for_scrapes(2)
        yield Replicas(services=services, prometheus=prometheus)


def keda_query() -> str:
    content = yaml.safe_load((COMPONENTS / "keda" / "scaled-object.yaml").read_text())
    (trigger,) = content["spec"]["triggers"]
    return trigger["metadata"]["query"]


def adapter_rule() -> dict:
    content = yaml.safe_load((COMPONENTS / "hpa" / "prometheus-adapter-values.yaml").read_text())
    (rule,) = content["rules"]["custom"]
    return rule


def adapter_query() -> str:
    """The rule's template as prometheus-adapter fills it in for the pods of an HPA."""
    filled = {
        "<<.Series>>": adapter_rule()["seriesQuery"].partition("{")[0],
        "<<.LabelMatchers>>": f'namespace="beamline",pod=~"{"|".join(PODS)}"',
        "<<.GroupBy>>": "pod",
    }
    query = adapter_rule()["metricsQuery"]
    for name, value in filled.items():
        assert name in query
        query = query.replace(name, value)
    assert "<<" not in query
    return query


def test_keda_gets_one_number_the_queue_of_all_pods(replicas):
    assert replicas.prometheus.query(keda_query()) == [({}, NUM_CLIENTS - 1)]


def test_the_adapter_finds_the_series_and_gives_each_pod_its_queue(replicas):
    found = replicas.prometheus.query(adapter_rule()["seriesQuery"])
    assert {labels["pod"] for labels, _ in found} == set(PODS)
    answers = replicas.prometheus.query(adapter_query())
    assert sorted((labels["pod"], value) for labels, value in answers) == [
        (PODS[0], NUM_CLIENTS - 1),
        (PODS[1], 0),
    ]


def test_of_pods_that_are_lost_there_is_no_number_and_never_a_zero(replicas):
    """The last one: it stops them. None for KEDA's fallback, none for the HPA to scale down by."""
    ask = replicas.prometheus
    replicas.services[PODS[1]].stop()
    wait_until(lambda: len(ask.query(adapter_query())) == 1, "its pod is left out")
    assert ask.query(adapter_query()) == [({"pod": PODS[0]}, NUM_CLIENTS - 1)]
    assert ask.query(keda_query()) == [({}, NUM_CLIENTS - 1)]
    replicas.services[PODS[0]].stop()
    wait_until(lambda: ask.query(adapter_query()) == [], "no pod is left")
    assert ask.query(keda_query()) == []
