"""A service that cannot load its model says so and stays answerable."""

import asyncio

import httpx
import pytest

from app.main import create_app
from app.settings import Settings


@pytest.fixture
async def failed_app(tmp_path):
    app = create_app(Settings(model=str(tmp_path / "none"), cache_folder=tmp_path))
    async with app.router.lifespan_context(app):
        loading = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.wait(loading)
        yield app


async def test_model_that_cannot_be_loaded_fails_liveness_with_the_reason(failed_app):
    transport = httpx.ASGITransport(failed_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        response = await client.get("/livez")
        refused = await client.post("/generate", json={"text": "Hi"})
    assert response.status_code == 503
    assert "none" in response.json()["reason"]
    assert refused.status_code == 503
    assert "retry-after" in refused.headers


async def test_model_that_cannot_be_loaded_is_logged_without_a_traceback(failed_app, caplog):
    [record] = [record for record in caplog.get_records("setup") if record.name == "app.lifespan"]
    assert record.levelname == "ERROR"
    assert record.exc_info is None
    assert failed_app.state.services.status_reason in record.getMessage()


async def test_service_that_stops_while_loading_abandons_the_load(tmp_path):
    app = create_app(Settings(model=str(tmp_path / "none"), cache_folder=tmp_path))
    services = app.state.services
    async with app.router.lifespan_context(app):
        pass
    assert services.has_stuck_thread
    assert services.status == "draining"
