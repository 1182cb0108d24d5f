"""Request ids, HTTP metrics and the body limit, around a small real FastAPI application."""

import json

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.http.error_handlers import install_error_handlers
from app.http.middleware import BodyLimit
from app.lifespan import build_services
from app.main import Service
from app.settings import Settings
from app.state import Services

MAX_BODY_BYTES = 1024


@pytest.fixture
def services() -> Services:
    services = build_services(Settings())
    yield services
    services.executor.close()


@pytest.fixture
def application(services) -> FastAPI:
    app = Service()
    app.state.services = services
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    install_error_handlers(app)
    inner = APIRouter(prefix="/inner")

    @inner.get("/items/{item}")
    async def item(item: str) -> str:
        return item

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner)
    app.include_router(outer)

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/crash")
    async def crash() -> None:
        raise ZeroDivisionError

    @app.get("/id")
    async def request_id(request: Request) -> str:
        return request.state.request_id

    @app.get("/livez")
    async def livez() -> None:
        return None

    return app


@pytest.fixture
async def client(application):
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


def requests_total(services: Services) -> dict[tuple[str, str, str], float]:
    text = generate_latest(services.metrics.registry).decode()
    return {
        (sample.labels["endpoint"], sample.labels["method"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "api_requests_total"
    }


def value_of(services: Services, name: str, **labels: str) -> float | None:
    return services.metrics.registry.get_sample_value(name, labels)


async def test_endpoint_label_is_the_whole_template_of_a_nested_route(client, services):
    await client.get("/outer/inner/items/1")
    await client.get("/outer/inner/items/2")
    assert requests_total(services) == {("/outer/inner/items/{item}", "GET", "200"): 2}


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc"])
async def test_pages_of_the_framework_have_labels_of_their_own(client, services, path):
    assert (await client.get(path)).status_code == 200
    await client.post(path)
    assert requests_total(services) == {(path, "GET", "200"): 1, (path, "POST", "405"): 1}


async def test_unmatched_paths_share_one_label(client, services):
    for path in ("/a", "/b/c", "/wp-login.php"):
        await client.get(path)
    assert requests_total(services) == {("unmatched", "GET", "404"): 3}


async def test_wrong_method_keeps_its_endpoint(client, services):
    await client.delete("/echo")
    assert requests_total(services) == {("/echo", "DELETE", "405"): 1}


async def test_crash_is_counted_as_500_and_nothing_stays_in_flight(client, services):
    response = await client.get("/crash")
    assert response.status_code == 500
    assert requests_total(services) == {("/crash", "GET", "500"): 1}
    assert value_of(services, "api_requests_in_flight") == 0


async def test_probes_are_counted_but_not_timed(client, services):
    await client.get("/livez")
    await client.get("/id")
    assert requests_total(services)["/livez", "GET", "200"] == 1
    assert value_of(services, "api_request_duration_seconds_count", endpoint="/livez") is None
    assert value_of(services, "api_request_duration_seconds_count", endpoint="/id") == 1


async def test_valid_request_id_is_kept_and_reaches_the_route(client):
    response = await client.get("/id", headers={"X-Request-Id": "trace-1.a/b=="})
    assert response.headers["x-request-id"] == "trace-1.a/b=="
    assert response.json() == "trace-1.a/b=="


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "<script>"])
async def test_unusable_request_id_is_replaced(client, given):
    response = await client.get("/id", headers={"X-Request-Id": given.encode()})
    assert response.json() == response.headers["x-request-id"] != given


@pytest.mark.parametrize("path", ["/nowhere", "/crash"])
async def test_failures_carry_their_request_id_too(client, path):
    response = await client.get(path, headers={"X-Request-Id": "abc"})
    assert response.status_code >= 400
    assert response.headers["x-request-id"] == "abc"


async def test_connections_are_closed_only_while_draining(client, services):
    assert "connection" not in (await client.get("/id")).headers
    services.become_draining("test")
    assert (await client.get("/id")).headers["connection"] == "close"


async def test_body_of_the_limit_passes(client):
    response = await client.post("/echo", content=b"x" * MAX_BODY_BYTES)
    assert response.json() == MAX_BODY_BYTES


async def test_longer_body_is_refused_in_the_shape_of_all_errors(client):
    response = await client.post("/echo", content=b"x" * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    error = response.json()["error"]
    assert error["code"] == "body_too_large"
    assert str(MAX_BODY_BYTES) in error["message"]


async def test_long_body_of_undeclared_length_is_refused_before_its_end(client):
    num_chunks = 0

    async def endless():
        nonlocal num_chunks
        while True:
            num_chunks += 1
            yield b"x" * 400

    response = await client.post("/echo", content=endless())
    assert response.status_code == 413
    assert num_chunks == 3


async def test_access_line_has_template_status_and_id_but_no_path(client, caplog):
    with caplog.at_level("INFO", logger="app.access"):
        await client.get("/outer/inner/items/secret", headers={"X-Request-Id": "abc"})
    [line] = [record.getMessage() for record in caplog.records if record.name == "app.access"]
    assert line.startswith("GET /outer/inner/items/{item} 200 ")
    assert line.endswith("id=abc")
    assert "secret" not in line


async def test_probes_leave_no_access_line(client, caplog):
    with caplog.at_level("INFO", logger="app.access"):
        await client.get("/livez")
    assert [record for record in caplog.records if record.name == "app.access"] == []


async def test_other_protocols_pass_untouched(application):
    scope = {"type": "lifespan"}
    sent = []

    async def receive():
        return {"type": "lifespan.startup" if not sent else "lifespan.shutdown"}

    async def send(message):
        sent.append(message["type"])

    await application(scope, receive, send)
    assert json.dumps(sent) == '["lifespan.startup.complete", "lifespan.shutdown.complete"]'
