"""`POST /generate/stream`: deltas that add up, errors in their place, a replay from the cache."""

import asyncio
import json

import pytest

from app.http.sse import EventStreamResponse, frames_of
from app.text.request import TextRequest
from decoding.greedy import Greedy
from tests.app.driven_service import parse_events, stop_within

PROMPT = "the quick brown"


def joined(events, index=0):
    return "".join(
        data["text"] for name, data in events if name == "token" and data["index"] == index
    )


def _uncached(max_new_tokens):
    return TextRequest(
        prompt=PROMPT,
        prompt_field="text",
        strategy=Greedy(),
        max_new_tokens=max_new_tokens,
        cache=False,
    )


@pytest.mark.parametrize("strategy", ["greedy", "sample", "top_k", "top_p", "beam"])
async def test_deltas_join_to_the_text_of_the_same_request_sent_whole(service, strategy):
    body = {"text": PROMPT, "strategy": strategy, "seed": 1, "max_new_tokens": 30, "cache": False}
    events = await service.stream(**body)
    whole = await service.generate(**body)
    assert events[-1] == ("done", whole)
    assert PROMPT + joined(events) == whole["generated_text"]


async def test_token_ids_come_with_their_text(service):
    events = await service.stream(
        text=PROMPT, strategy="greedy", max_new_tokens=12, details=True, cache=False
    )
    name, done = events[-1]
    assert name == "done"
    streamed = [token_id for name, data in events[:-1] for token_id in data["token_ids"]]
    assert streamed == [token["id"] for token in done["details"]["tokens"][0]]
    assert len(events) > 5


async def test_several_samples_stream_side_by_side(service):
    events = await service.stream(
        text=PROMPT, num_return_sequences=3, seed=1, max_new_tokens=8, return_full_text=False
    )
    done = events[-1][1]
    for sequence in done["sequences"]:
        assert joined(events, sequence["index"]) == sequence["generated_text"]


async def test_several_beams_stream_their_texts_at_the_end(service):
    events = await service.stream(
        text=PROMPT,
        strategy="beam",
        num_return_sequences=2,
        max_new_tokens=8,
        return_full_text=False,
    )
    done = events[-1][1]
    for sequence in done["sequences"]:
        assert joined(events, sequence["index"]) == sequence["generated_text"]


async def test_a_stop_string_never_shows_in_a_stream(service):
    body = {"text": PROMPT, "strategy": "greedy", "return_full_text": False, "cache": False}
    whole = await service.generate(**body)
    stop = stop_within(whole["generated_text"])
    events = await service.stream(**body, stop=stop)
    assert joined(events) == whole["generated_text"].split(stop)[0]
    assert events[-1][1]["finish_reason"] == "stop"


async def test_a_stream_is_not_buffered_by_proxies(service):
    response = await service.post("/generate/stream", text=PROMPT, max_new_tokens=2)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-cache"] == "BYPASS"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": ["a", "b"]}, "text"),
        ({"text": "dog", "max_new_tokens": 1000}, "max_new_tokens"),
        ({"text": "dog", "temperature": 0}, "temperature"),
    ],
)
async def test_what_can_be_refused_is_refused_before_the_stream_begins(service, body, param):
    response = await service.post("/generate/stream", **body)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == param


async def test_tokens_are_sent_as_they_come(service):
    service.hold(after=1)
    async with service.call("/generate/stream", {"text": PROMPT, "strategy": "greedy"}) as call:
        await service.held()
        await service.until(lambda: "event: token" in call.text)
        assert call.status == 200
        assert "done" not in call.text
        service.release()
        await call.task
    assert parse_events(call.text)[-1][0] == "done"


async def test_a_failure_before_the_first_token_has_a_status_of_its_own(service):
    service.hold()
    async with service.call("/generate/stream", {"text": PROMPT, "strategy": "greedy"}) as call:
        await service.held()
        assert call.status is None
        service.runner.failure = RuntimeError("device lost")
        service.release()
        await call.task
    service.runner.failure = None
    assert call.status == 500
    assert json.loads(call.text)["error"]["code"] == "step_failed"
    assert service.generator.num_in_flight == 0


async def test_a_failure_in_the_middle_is_an_error_event(service):
    service.hold(after=1)
    async with service.call("/generate/stream", {"text": PROMPT, "strategy": "greedy"}) as call:
        await service.held()
        await service.until(lambda: "event: token" in call.text)
        service.runner.failure = RuntimeError("device lost")
        service.release()
        await call.task
    assert call.status == 200
    name, data = parse_events(call.text)[-1]
    assert (name, data["error"]["code"]) == ("error", "step_failed")
    service.runner.failure = None


async def test_tokens_that_came_before_a_failure_are_still_sent(service):
    service.hold(after=3)
    subscription = await service.generator.start(_uncached(max_new_tokens=60))
    await service.held()
    await service.until(lambda: subscription.has_started)
    service.generator.abort_all("The service is stopping.")
    presenter = service.generator.presenter
    frames = [frame async for frame in frames_of(subscription, presenter, keep_alive_seconds=60.0)]
    subscription.close()
    service.release()
    assert [frame.split(b"\n")[0] for frame in frames] == [b"event: token", b"event: error"]


async def test_an_abort_is_an_error_event(service):
    service.hold(after=1)
    async with service.call("/generate/stream", {"text": PROMPT, "strategy": "greedy"}) as call:
        await service.held()
        await service.until(lambda: "event: token" in call.text)
        service.generator.abort_all("The service is stopping.")
        await call.task
        service.release()
    name, data = parse_events(call.text)[-1]
    assert (name, data["error"]["code"]) == ("error", "service_unavailable")


async def test_a_silent_stream_says_that_it_is_alive(service):
    service.hold()
    subscription = await service.generator.start(_uncached(max_new_tokens=3))
    frames = frames_of(subscription, service.generator.presenter, keep_alive_seconds=0.001)
    assert await anext(frames) == b": keep-alive\n\n"
    service.release()
    rest = [frame async for frame in frames]
    subscription.close()
    assert rest[-1].startswith(b"event: done\n")


async def test_a_client_that_stops_reading_is_given_up(service):
    subscription = await service.generator.start(_uncached(max_new_tokens=3))
    response = EventStreamResponse(
        frames_of(subscription, service.generator.presenter, keep_alive_seconds=60.0),
        close=subscription.close,
        headers={},
        write_timeout_seconds=0.01,
    )
    never = asyncio.Event()
    await response({}, never.wait, lambda _: never.wait())
    await service.until(service.is_idle)


async def test_a_stream_from_the_cache_gives_the_same_text(service):
    body = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 12}
    first = await service.stream(**body)
    response = await service.post("/generate/stream", **body)
    assert response.headers["x-cache"] == "HIT"
    again = parse_events(response.text)
    assert joined(again) == joined(first)
    assert again[-1][1] == first[-1][1] | {"cached": True}


@pytest.mark.parametrize(
    "more", [{"strategy": "greedy"}, {"strategy": "beam", "num_beams": 3}], ids=["greedy", "beam"]
)
async def test_time_between_tokens_is_counted_once_a_token(service, more):
    events = await service.stream(text="Hello", max_new_tokens=12, cache=False, **more)
    bursts = [len(data["token_ids"]) for name, data in events if "token_ids" in data]
    between = service.metric("inter_token_latency_seconds_count")
    assert between == sum(bursts[1:])
    has_bursts = max(bursts[1:]) > 1  # beams agree on several tokens at a time
    assert has_bursts == (more["strategy"] == "beam")
