"""What operators may do to a running service: its caches, its memory, its door, its log."""

import logging

import pytest

from app.settings import Settings

KEY = "an-operators-key-1"


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_folder=tmp_path, admin_api_keys=KEY)


@pytest.fixture(autouse=True)
def level_as_it_was():
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture
def ask(service):
    async def ask(method, path, **body):
        answer = await service.client.request(
            method, path, json=body or None, headers={"Authorization": f"Bearer {KEY}"}
        )
        return answer.status_code, answer.json()

    return ask


async def generate(ask, text="Hi"):
    status, answer = await ask("POST", "/generate", text=text, strategy="greedy", max_new_tokens=3)
    assert status == 200, answer


async def test_cache_is_reported_and_cleared(ask, service):
    for text in ("one", "two"):
        await generate(ask, text)
    _, report = await ask("GET", "/admin/cache")
    assert report["response_cache"]["entries"] == 2
    assert report["response_cache"]["bytes"] > 0
    assert report["response_cache"]["max_entries"] == service.parts.settings.response_cache_entries
    assert report["prefix_cache"]["max_tokens"] > 0
    assert report["prefix_cache"]["queried_tokens"] > report["prefix_cache"]["hit_tokens"]
    status, cleared = await ask("DELETE", "/admin/cache")
    assert (status, cleared) == (
        200,
        {"entries": 2, "bytes": report["response_cache"]["bytes"]},
    )
    _, report = await ask("GET", "/admin/cache")
    assert (report["response_cache"]["entries"], report["response_cache"]["bytes"]) == (0, 0)
    await generate(ask, "one")
    _, report = await ask("GET", "/admin/cache")
    assert report["response_cache"]["entries"] == 1


async def test_memory_is_that_of_the_process_and_can_be_released(ask):
    _, report = await ask("GET", "/admin/memory")
    process = report["process"]
    assert 50e6 < process["resident_bytes"] <= process["peak_bytes"]
    assert process["available_bytes"] > 0
    assert report["device"] is None
    status, released = await ask("POST", "/admin/memory/release")
    assert status == 200
    assert released["before"]["process"]["resident_bytes"] > 0
    assert released["after"]["process"]["resident_bytes"] > 0
    await generate(ask)


async def test_drain_refuses_new_work_finishes_old_and_can_be_undone(ask, service):
    service.hold()
    body = {"text": "Hi", "strategy": "greedy", "max_new_tokens": 3}
    async with service.call("/generate", body, secret=KEY) as running:
        await service.held()
        status, report = await ask("POST", "/admin/drain")
        assert (status, report["status"], report["num_in_flight"]) == (200, "draining", 1)
        assert report["may_resume"]
        assert (await service.client.get("/readyz")).status_code == 503
        assert (await service.client.get("/livez")).status_code == 200
        status, _ = await ask("POST", "/generate", text="Hi", strategy="greedy")
        assert status == 503
        service.release()
        await service.until(lambda: running.status is not None)
        assert running.status == 200
    await service.until(service.is_idle)
    assert (await ask("GET", "/admin/drain"))[1]["num_in_flight"] == 0
    status, report = await ask("DELETE", "/admin/drain")
    assert (status, report["status"], report["may_resume"]) == (200, "ready", False)
    assert (await service.client.get("/readyz")).status_code == 200
    await generate(ask)


async def test_drain_that_ends_the_process_cannot_be_undone(ask, service):
    await ask("POST", "/admin/drain")
    service.parts.become_draining("received SIGTERM")
    status, report = await ask("POST", "/admin/drain")
    assert (status, report["may_resume"], report["reason"]) == (200, False, "received SIGTERM")
    status, refusal = await ask("DELETE", "/admin/drain")
    assert status == 409
    assert refusal["error"]["code"] == "state_conflict"
    assert "received SIGTERM" in refusal["error"]["message"]


async def test_failed_service_has_nothing_to_drain(ask, service):
    service.parts.become_failed(RuntimeError("broken"))
    assert (await ask("POST", "/admin/drain"))[0] == 409


async def test_log_level_is_read_and_changed(ask):
    status, report = await ask("PUT", "/admin/log_level", log_level="debug")
    assert (status, report) == (200, {"log_level": "debug"})
    assert logging.getLogger("app").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert (await ask("PUT", "/admin/log_level", log_level="error"))[0] == 200
    assert (await ask("GET", "/admin/log_level"))[1] == {"log_level": "error"}
    assert not logging.getLogger("app").isEnabledFor(logging.WARNING)
    status, refusal = await ask("PUT", "/admin/log_level", log_level="loud")
    assert (status, refusal["error"]["param"]) == (422, "log_level")
