"""Each probe answers for one question, in every state of the service."""

import asyncio
import json
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI

from app.lifespan import build_services
from app.process.listener import open_socket
from app.process.server import DrainingServer
from app.routes import health, metrics
from app.settings import Settings
from app.state import ServedModel, Services
from engine.messages import EngineLimits, EngineStats

LIMITS = EngineLimits(
    is_deterministic=True,
    has_all_logits=True,
    has_draft_model=True,
    has_hidden_states=True,
    context_length=128,
    vocab_size=100,
    max_rows=4,
    max_cached_tokens=256,
    block_size=16,
)


@dataclass(kw_only=True)
class ReportedWorker:
    """What a worker says of itself; a real one cannot be made to hang or die on demand."""

    is_healthy: bool = True
    seconds_since_heartbeat: float = 0.0
    stats: EngineStats = field(default_factory=EngineStats)
    limits: EngineLimits = LIMITS


@pytest.fixture
def services() -> Services:
    services = build_services(Settings(stall_seconds=60.0))
    yield services
    services.executor.close()


@pytest.fixture
def app(services):
    app = FastAPI()
    app.state.services = services
    app.include_router(health.build_router())
    app.include_router(metrics.build_router())
    return app


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


@pytest.fixture
async def address(app, services):
    """Where a real server answers: only a server leaves bodies out."""
    make_ready(services)
    settled = asyncio.Event()
    server = DrainingServer(app, on_settled=settled.set)
    with open_socket("127.0.0.1", 0) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await settled.wait()
        yield listener.getsockname()
        server.should_exit = True
        await task


async def exchange(address: tuple[str, int], method: str, path: str) -> tuple[bytes, bytes]:
    """Head and body of an answer as they come over the wire."""
    reader, writer = await asyncio.open_connection(*address)
    request = f"{method} {path} HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head, body


def without_date(answer: tuple[bytes, bytes]) -> tuple[list[bytes], bytes]:
    head, body = answer
    return [line for line in head.split(b"\r\n") if not line.startswith(b"date:")], body


async def statuses(client: httpx.AsyncClient) -> dict[str, int]:
    paths = ("/health", "/livez", "/readyz", "/startupz")
    return {path: (await client.get(path)).status_code for path in paths}


def make_ready(services: Services, worker: ReportedWorker | None = None) -> None:
    services.worker = worker or ReportedWorker()
    services.model = ServedModel(
        name="tiny",
        revision="r1",
        runtime="torch",
        device="cpu",
        dtype="float32",
        weights="w8a8",
        draft_model="tinier",
    )
    services.become_ready()


async def test_loading_service_is_alive_but_not_ready(client):
    expected = {"/health": 503, "/livez": 200, "/readyz": 503, "/startupz": 503}
    assert await statuses(client) == expected


async def test_ready_service_is_well_in_every_respect(client, services):
    make_ready(services)
    assert set((await statuses(client)).values()) == {200}


async def test_draining_service_is_alive_and_started_but_not_ready(client, services):
    make_ready(services)
    services.become_draining("received SIGTERM")
    expected = {"/health": 503, "/livez": 200, "/readyz": 503, "/startupz": 200}
    assert await statuses(client) == expected


async def test_failed_service_is_not_alive_and_says_why(client, services):
    services.become_failed(RuntimeError("no such folder"))
    assert set((await statuses(client)).values()) == {503}
    assert "no such folder" in (await client.get("/livez")).json()["reason"]


async def test_dead_engine_is_neither_alive_nor_ready(client, services):
    make_ready(services, ReportedWorker(is_healthy=False))
    expected = {"/health": 503, "/livez": 503, "/readyz": 503, "/startupz": 200}
    assert await statuses(client) == expected


@pytest.mark.parametrize(("silence", "status"), [(59.0, 200), (61.0, 503)])
async def test_engine_that_hangs_longer_than_allowed_is_not_alive(
    client, services, silence, status
):
    make_ready(services, ReportedWorker(seconds_since_heartbeat=silence))
    assert (await client.get("/livez")).status_code == status


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
@pytest.mark.parametrize("is_ready", [True, False])
async def test_head_is_answered_as_get_is_but_without_a_body(address, services, path, is_ready):
    if not is_ready:
        services.worker.seconds_since_heartbeat = 61.0  # ill, but nothing that ends the server
        services.was_ready = False
    head, body = await exchange(address, "GET", path)
    assert head.startswith(b"HTTP/1.1 200" if is_ready else b"HTTP/1.1 503")
    assert json.loads(body)["ok"] is is_ready
    assert without_date(await exchange(address, "HEAD", path)) == without_date((head, b""))


async def test_head_of_health_has_the_status_of_get_and_no_body(client, address, services):
    head, body = await exchange(address, "HEAD", "/health")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"")
    services.become_draining("received SIGTERM")
    assert (await client.head("/health")).status_code == 503


async def test_health_names_model_and_limits(client, services):
    make_ready(services)
    report = (await client.get("/health")).json()
    assert report["status"] == "ready"
    assert report["model"] == {
        "name": "tiny",
        "revision": "r1",
        "runtime": "torch",
        "device": "cpu",
        "dtype": "float32",
        "weights": "w8a8",
        "draft_model": "tinier",
    }
    assert report["limits"]["context_length"] == 128
    assert report["uptime_seconds"] >= 0


def test_service_that_began_to_drain_never_becomes_ready(services):
    services.become_draining("received SIGTERM")
    services.become_ready()
    assert services.status == "draining"
    assert not services.was_ready


def test_failure_is_not_hidden_by_draining(services):
    services.become_failed(RuntimeError("broken"))
    services.become_draining("received SIGTERM")
    assert services.status == "failed"


def test_engine_numbers_are_read_when_scraped(services):
    stats = EngineStats(
        num_running_sequences=3,
        num_waiting_requests=2,
        num_cached_tokens=64,
        max_cached_tokens=256,
        num_preemptions=5,
        num_step_rows=12,
        num_step_tokens=40,
        num_prompt_tokens_from_cache=16,
        device_memory_bytes=1024,
    )
    worker = ReportedWorker()
    make_ready(services, worker)
    worker.stats = stats
    found = services.metrics.registry.get_sample_value
    assert found("running_sequences") == 3
    assert found("waiting_requests") == 2
    assert found("kv_cache_usage_ratio") == 0.25
    assert found("preemptions_total") == 5
    assert found("engine_step_rows_total") == 12
    assert found("engine_step_tokens_total") == 40
    assert found("prefix_cache_hit_tokens_total") == 16
    assert found("gpu_memory_usage_bytes") == 1024
    labels = {"name": "tiny", "revision": "r1", "runtime": "torch"}
    labels |= {"device": "cpu", "dtype": "float32", "weights": "w8a8", "tensor_parallel_size": "1"}
    assert found("model_info", labels) == 1
    assert found("service_status", {"status": "ready"}) == 1


def test_metric_of_readiness_agrees_with_the_probe(services):
    worker = ReportedWorker()
    found = services.metrics.registry.get_sample_value
    assert found("service_ready") == 0  # it loads
    make_ready(services, worker)
    worker.stats = EngineStats()
    assert found("service_ready") == 1
    worker.is_healthy = False
    assert (found("service_ready"), found("service_status", {"status": "ready"})) == (0, 1)


async def test_engine_series_exist_before_the_model_is_loaded(client):
    text = (await client.get("/metrics")).text
    for name in ("running_sequences", "kv_cache_usage_ratio", "preemptions_total"):
        assert f"\n{name} 0.0" in text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
async def test_metrics_come_in_the_format_asked_for(client, accept, content_type):
    response = await client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith(content_type)
    assert response.text.endswith("# EOF\n") == ("openmetrics" in content_type)
