"""Requests of TGI's API whose time is up: TGI knows no such end, so it is told as the length's."""

import asyncio
import json

import pytest

from tests.engine.hand_clock import HandClock

BODY = {
    "inputs": "the quick brown",
    "parameters": {"details": True, "max_new_tokens": 40, "cache": False, "timeout": 10.0},
}


@pytest.fixture
def engine_clock():
    return HandClock()


async def run_out_of_time(service, clock, path):
    service.hold(after=5)
    task = asyncio.create_task(service.post(path, **BODY))
    await service.held()
    clock.seconds += 10.0
    service.release()
    response = await task
    assert response.status_code == 200, response.text
    return response


async def test_a_whole_answer_tells_what_there_is(service, engine_clock):
    answer = (await run_out_of_time(service, engine_clock, "/generate")).json()
    assert answer["details"]["finish_reason"] == "length"
    assert answer["details"]["generated_tokens"] == len(answer["details"]["tokens"]) == 6
    text = "".join(token["text"] for token in answer["details"]["tokens"])
    assert text == answer["generated_text"]


async def test_a_stream_ends_with_the_text_even_without_a_last_token(service, engine_clock):
    response = await run_out_of_time(service, engine_clock, "/generate_stream")
    events = [json.loads(block[5:]) for block in response.text.split("\n\n") if block]
    assert events[-1]["details"]["finish_reason"] == "length"
    assert events[-1]["details"]["generated_tokens"] == 6
    shown = [event["token"]["text"] for event in events if not event["token"]["special"]]
    assert "".join(shown) == events[-1]["generated_text"] != ""
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))
