"""The line of a request: who, what, how long, and nothing of its text."""

import asyncio
import json
import logging

import pytest

from app.process.logs import JsonFormatter, TextFormatter
from app.telemetry import journal

SECRET = "the quick xyzzy"
BODY = {"text": SECRET, "strategy": "greedy", "max_new_tokens": 4}


@pytest.fixture
def lines(caplog):
    """The access lines so far, as records."""
    caplog.set_level("DEBUG")
    return lambda: [record for record in caplog.records if record.name == "app.access"]


async def test_the_line_says_what_was_generated_and_where_the_time_went(service, lines):
    headers = {"X-Request-Id": "mine"}
    await service.client.post("/generate", json=BODY, headers=headers)
    (record,) = lines()
    line = json.loads(JsonFormatter().format(record))
    assert line["request_id"] == "mine"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/generate", 200)
    assert (line["strategy"], line["cache"], line["finish_reason"]) == ("greedy", "miss", "length")
    assert (line["generated_tokens"], line["cached_tokens"]) == (4, 0)
    assert line["prompt_tokens"] > 1
    parts = [line[name] for name in ("queue_ms", "prefill_ms", "decode_ms")]
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= line["duration_ms"]
    assert "strategy=greedy" in TextFormatter().format(record)
    assert "xyzzy" not in JsonFormatter().format(record)


async def test_a_stream_a_list_and_a_refusal_have_a_line_each(service, lines):
    await service.stream(**BODY)
    await service.post(**BODY | {"text": [SECRET, "other"]})
    await service.post(**BODY | {"temperature": -1})
    stream, many, refused = (record.fields for record in lines())
    assert (stream["route"], stream["generated_tokens"]) == ("/generate/stream", 4)
    assert (many["generations"], many["generated_tokens"]) == (2, 8)
    assert many["cache"] == "hit,miss"
    assert (refused["status"], "strategy" in refused) == (422, False)
    assert refused["error"]


async def test_what_failed_and_what_nobody_waited_for_is_told_by_its_code(service, lines):
    service.hold(after=1)
    async with service.call("/generate/stream", BODY) as call:
        await service.held()
        await service.until(lambda: "event: token" in call.text)
        call.hang_up()
        await call.task
    service.release()
    (record,) = lines()
    assert record.fields["error"] == "client_disconnected"
    assert record.fields["generated_tokens"] == 1


async def test_a_job_has_a_line_of_its_own_when_it_ends(service, lines):
    response = await service.post("/generate_async", **BODY)
    await service.until(lambda: len(lines()) == 2)
    request, job = (record.fields for record in lines())
    assert (request["status"], "strategy" in request) == (202, False)
    assert (job["strategy"], job["generated_tokens"]) == ("greedy", 4)
    assert job["request_id"] == request["request_id"] == response.headers["x-request-id"]


async def test_what_is_said_while_a_request_is_served_carries_its_id(service, caplog):
    headers = {"X-Client-Request-Id": "theirs"}
    service.hold()
    asking = service.client.post("/generate", json=BODY, headers=headers)
    task = asyncio.create_task(asking)
    await service.held()
    service.runner.failure = RuntimeError("device lost")
    service.release()
    response = await task
    service.runner.failure = None
    assert response.headers["x-request-id"] == "theirs"
    (engine,) = [record for record in caplog.records if record.name == "engine.worker"]
    assert "theirs/" in engine.getMessage()


class TestPrompts:
    """A service that was asked to log them."""

    @pytest.fixture
    def settings(self, settings):
        return settings.model_copy(update={"log_prompts": True})

    async def test_prompts_and_answers_are_logged_and_cut(self, service, lines, monkeypatch):
        answer = await service.generate(**BODY, return_full_text=False)
        monkeypatch.setattr(journal, "MAX_SHOWN_CHARACTERS", 100)
        long = "the dog " * 20
        await service.generate(**BODY | {"text": long})
        first, second = (record.fields for record in lines())
        assert (first["prompt"], first["text"]) == (SECRET, answer["generated_text"])
        assert second["prompt"].endswith("...")
        assert second["prompt"][:97] == long[:97]
        assert len(second["prompt"]) == 100

    async def test_a_prompt_cannot_forge_a_line(self, service, lines):
        await service.generate(**BODY | {"text": "a\r\nINFO forged"})
        (record,) = lines()
        assert len(TextFormatter().format(record).splitlines()) == 1
        assert len(JsonFormatter().format(record).splitlines()) == 1


def test_lines_of_nobodys_request_have_no_id() -> None:
    record = logging.LogRecord("app.x", logging.INFO, "f.py", 1, "hello", (), None)
    assert "request_id" not in json.loads(JsonFormatter().format(record))
    assert TextFormatter().format(record).endswith("hello")
