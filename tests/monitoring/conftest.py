"""The service with all that it can show, under a real Prometheus, after some traffic."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.access import redis_server
from tests.e2e.conftest import (
    ServerProcess,
    beamline,
    build_tokenizer,
    save_tiny_model,
    server_environment,
)
from tests.monitoring import prometheus_server
from tests.monitoring.prometheus_server import PrometheusServer, free_port
from tests.monitoring.traffic import Counts, Traffic


class Service:
    """`beamline serve` on a tiny model, with keys and a Redis; starts again on the same port."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._environment = server_environment(
            BEAMLINE_CACHE_FOLDER=str(folder),
            BEAMLINE_KEYS_FILE=str(folder / "keys.json"),
            BEAMLINE_PUBLIC_METRICS="true",
            BEAMLINE_CACHE_REDIS=redis_url,
            BEAMLINE_CACHE_REDIS_SECRET="a secret that replicas share, only they",
        )
        self._process: ServerProcess | None = None
        save_tiny_model(folder / "tiny", build_tokenizer())

    def add_key(self, *arguments: str) -> str:
        """A new key, by `beamline keys add`."""
        command = beamline("keys", "add", *arguments)
        done = subprocess.run(
            command, env=self._environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        port = self.address.rpartition(":")[2]
        options = ("--model", str(self._folder / "tiny"), "--port", port, "--device", "cpu")
        self._process = ServerProcess(beamline("serve", *options), self._environment)
        self._process.ready_url()

    def stop(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.close()
            self._process = None


@dataclass(frozen=True, slots=True)
class Live:
    """A service, the Prometheus that scrapes it, and what its clients saw."""

    service: Service
    prometheus: PrometheusServer
    counts: Counts


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
    service = Service(tmp_path_factory.mktemp("service"), redis.url)
    key = service.add_key("alice")
    limited_key = service.add_key("bob", "--requests-per-minute", "1")
    prometheus = PrometheusServer(tmp_path_factory.mktemp("prometheus"), service.address)
    traffic = Traffic(f"http://{service.address}", key=key, limited_key=limited_key)
    try:
        service.start()
        prometheus.start()
        for _ in range(2):
            prometheus.wait_for_scrapes(2)
            traffic.send_round()
        prometheus.wait_for_scrapes(2)
        yield Live(service, prometheus, traffic.counts)
    finally:
        traffic.close()
        prometheus.close()
        service.stop()
