"""The service with all that it can show, under a real Prometheus, after some traffic."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.access import redis_server
from tests.monitoring import bench, prometheus_server
from tests.monitoring.prometheus_server import PrometheusServer
from tests.monitoring.service import Service
from tests.monitoring.traffic import Counts, Traffic

LOAD = (
    *("--concurrency", "2", "--requests", "16", "--warm-up", "0"),
    # Prompts that take long to be read, so that what HTTP adds to a first token is little.
    *("--prompt-tokens", "1500", "--new-tokens", "8-24", "--body", '{"strategy": "top_k"}'),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLoad:
    """What `beamline bench` measured, and the time on Prometheus's clock before and after it."""

    since: float
    until: float
    result: dict


@dataclass(frozen=True, slots=True)
class Live:
    """A service, the Prometheus that scrapes it, and what its clients saw."""

    service: Service
    prometheus: PrometheusServer
    counts: Counts
    bench: MeasuredLoad


@pytest.fixture(scope="module")
def redis() -> Iterator[redis_server.RedisServer]:
    """A Redis for the shared cache."""
    if redis_server.BINARY is None:
        pytest.skip("needs redis-server")
    server = redis_server.RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def live(redis, tmp_path_factory) -> Iterator[Live]:
    """All of it. Series appear with their first request, so growth shows from round two on."""
    if prometheus_server.BINARY is None:
        pytest.skip("needs prometheus (Debian's package)")
    settings = {
        "BEAMLINE_CACHE_REDIS": redis.url,
        "BEAMLINE_CACHE_REDIS_SECRET": "a secret that replicas share, only they",
    }
    # On torch, which exports and compiles nothing: a busy machine starts it in time as well.
    service = Service(tmp_path_factory.mktemp("service"), "--runtime", "torch", settings=settings)
    key = service.add_key("alice")
    limited_key = service.add_key("bob", "--requests-per-minute", "1")
    prometheus = PrometheusServer(tmp_path_factory.mktemp("prometheus"), {service.address: {}})
    traffic = Traffic(service.url, key=key, limited_key=limited_key)
    try:
        service.start()
        prometheus.start()
        for _ in range(2):
            prometheus.wait_for_scrapes(2)
            traffic.send_round()
        prometheus.wait_for_scrapes(2)
        measured = measure(service, prometheus, key, tmp_path_factory.mktemp("bench"))
        yield Live(service, prometheus, traffic.counts, measured)
    finally:
        traffic.close()
        prometheus.close()
        service.stop()


def measure(service: Service, prometheus: PrometheusServer, key: str, folder: Path) -> MeasuredLoad:
    """Have the real load generator put a load on the service while it is scraped."""
    since = prometheus.now()
    result = bench.measure(service.url, *LOAD, key=key, file=folder / "load.json")
    prometheus.wait_for_scrapes(2)
    return MeasuredLoad(since=since, until=prometheus.now(), result=result)
