"""`timeout`, `queue_timeout` and `priority` of a request, whole, streamed and shared."""

import asyncio

import pytest

from app.generation.urgency import UrgencyRules
from tests.app.driven_service import parse_events
from tests.engine.hand_clock import HandClock

PROMPT = "the quick brown"


@pytest.fixture
def engine_clock():
    return HandClock()


async def _run_out_of_time(service, clock, asking, *, after):
    """What comes of a request whose time is up after so many steps; `asking` has not begun yet."""
    service.hold(after=after)
    task = asyncio.create_task(asking)
    await service.held()
    clock.seconds += 10.0
    service.release()
    return await task


async def test_what_there_is_when_time_is_up_is_the_answer(service, engine_clock):
    body = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 40}
    full = await service.generate(**body, cache=False)
    asking = service.generate(**body, timeout=10.0)
    cut = await _run_out_of_time(service, engine_clock, asking, after=5)
    assert cut["finish_reason"] == "timeout"
    assert cut["output_length"] - cut["input_length"] == 6
    assert full["generated_text"].startswith(cut["generated_text"].rstrip("\ufffd"))
    assert service.metric("generations_finished_total", strategy="greedy", reason="timeout") == 1


async def test_every_sequence_is_cut_and_beams_give_the_best_so_far(service, engine_clock):
    for strategy in ("sample", "beam"):
        asking = service.generate(
            text=PROMPT,
            strategy=strategy,
            num_return_sequences=2,
            seed=4,
            max_new_tokens=40,
            cache=False,
            timeout=10.0,
        )
        cut = await _run_out_of_time(service, engine_clock, asking, after=5)
        assert [each["finish_reason"] for each in cut["sequences"]] == ["timeout", "timeout"]
        shorter = await service.generate(
            text=PROMPT,
            strategy=strategy,
            num_return_sequences=2,
            seed=4,
            max_new_tokens=6,
            cache=False,
        )
        texts = [each["generated_text"] for each in cut["sequences"]]
        assert texts == [each["generated_text"] for each in shorter["sequences"]]


@pytest.mark.parametrize("strategy", ["sample", "beam"])
async def test_a_stream_whose_time_is_up_ends_with_done(service, engine_clock, strategy):
    body = {"text": PROMPT, "strategy": strategy, "seed": 1, "max_new_tokens": 40}
    asking = service.stream(**body, cache=False, timeout=10.0)
    events = await _run_out_of_time(service, engine_clock, asking, after=5)
    name, answer = events[-1]
    assert (name, answer["finish_reason"]) == ("done", "timeout")
    text = "".join(data["text"] for name, data in events if name == "token")
    assert PROMPT + text == answer["generated_text"]
    assert sum(len(data["token_ids"]) for name, data in events if name == "token") == 6


async def test_an_answer_that_was_cut_short_is_not_kept(service, engine_clock):
    body = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 40}
    asking = service.generate(**body, timeout=10.0)
    await _run_out_of_time(service, engine_clock, asking, after=5)
    again = await service.post(**body, timeout=10.0)
    assert again.headers["x-cache"] == "MISS"
    assert again.json()["finish_reason"] != "timeout"
    kept = await service.post(**body)
    assert kept.headers["x-cache"] == "HIT"


async def test_who_asks_in_other_time_has_a_generation_of_their_own(service):
    body = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 20}
    service.hold()
    first = asyncio.create_task(service.post(**body, timeout=10.0))
    await service.held()
    others = [
        asyncio.create_task(service.post(**body, **way))
        for way in ({"timeout": 10.0}, {}, {"timeout": 20.0}, {"timeout": 10.0, "priority": 1})
    ]
    await service.until(lambda: service.generator.num_in_flight == 5)
    await service.until(lambda: service.metric("response_cache_misses_total") == 4)
    service.release()
    answers = await asyncio.gather(first, *others)
    outcomes = [answer.headers["x-cache"] for answer in answers]
    assert outcomes == ["MISS", "HIT", "MISS", "MISS", "MISS"]
    assert len({answer.json()["generated_text"] for answer in answers}) == 1


@pytest.mark.parametrize("path", ["/generate", "/generate/stream"])
@pytest.mark.parametrize("limit", ["timeout", "queue_timeout"])
async def test_what_is_not_begun_in_time_is_a_503_also_of_a_stream(
    service, engine_clock, path, limit
):
    service.hold()
    running = asyncio.create_task(service.generate(text="a", strategy="greedy", max_new_tokens=3))
    await service.held()
    body = {"text": PROMPT, "strategy": "greedy", limit: 5.0}
    late = asyncio.create_task(service.post(path, **body))
    await service.until(lambda: service.generator.num_in_flight == 2)
    await service.until(lambda: len(service.worker._inbox) == 1)
    engine_clock.seconds += 5.0
    service.release()
    response = await late
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "queue_timeout"
    assert int(response.headers["retry-after"]) >= 1
    assert (await running)["output_length"] > 1
    assert service.metric("queue_timeouts_total") == 1
    assert service.metric("engine_failures_total") == 0
    reason = {"strategy": "greedy", "reason": "queue_timeout"}
    assert service.metric("generations_finished_total", **reason) == 1


async def test_the_urgent_one_goes_first(service):
    service.hold()
    wide = {"strategy": "sample", "num_return_sequences": 8, "seed": 0, "max_new_tokens": 2}
    running = asyncio.create_task(service.post(text="a", **wide))
    await service.held()
    ended = []

    async def ask(priority):
        await service.generate(text=f"{PROMPT} {priority}", priority=priority, **wide)
        ended.append(priority)

    asking = []
    for number, priority in enumerate([1, 0, -1], start=1):
        asking.append(asyncio.create_task(ask(priority)))
        await service.until(lambda number=number: len(service.worker._inbox) == number)
    service.release()
    await asyncio.gather(running, *asking)
    assert ended == [-1, 0, 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("timeout", 0), ("timeout", -1.0), ("queue_timeout", 1e9), ("priority", 1.5)],
)
async def test_impossible_values_are_refused_by_name(service, field, value):
    response = await service.post(text=PROMPT, **{field: value})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == field


class TestRules:
    """What the server allows and gives."""

    @pytest.fixture
    def urgency_rules(self):
        return UrgencyRules(timeout_seconds=10.0, max_timeout_seconds=20.0, min_priority=0)

    async def test_more_than_the_server_allows_is_refused_with_the_limit(self, service):
        late = await service.post(text=PROMPT, timeout=20.5)
        urgent = await service.post(text=PROMPT, priority=-1)
        assert (late.status_code, urgent.status_code) == (422, 422)
        assert late.json()["error"]["param"] == "timeout"
        assert "20 seconds" in late.json()["error"]["message"]
        assert urgent.json()["error"]["param"] == "priority"

    async def test_who_names_no_time_has_the_servers(self, service, engine_clock):
        asking = service.generate(text=PROMPT, strategy="greedy", max_new_tokens=40)
        cut = await _run_out_of_time(service, engine_clock, asking, after=3)
        assert cut["finish_reason"] == "timeout"


class TestKeepAlive:
    """A stream that begins in the queue."""

    @pytest.fixture
    def settings(self, settings):
        return settings.model_copy(update={"sse_keep_alive_seconds": 0.01})

    async def test_a_silent_stream_begins_with_comments_and_goes_on(self, service):
        service.hold()
        body = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 3}
        async with service.call("/generate/stream", body) as call:
            await service.until(lambda: call.text.count(": keep-alive") >= 2)
            assert call.status == 200
            service.release()
            await service.until(lambda: "event: done" in call.text)
        assert [name for name, _ in parse_events(call.text)][-1] == "done"

    async def test_what_fails_after_the_first_comment_is_told_in_the_stream(
        self, service, engine_clock
    ):
        service.hold()
        running = asyncio.create_task(service.generate(text="a", max_new_tokens=2))
        await service.held()
        body = {"text": PROMPT, "strategy": "greedy", "queue_timeout": 5.0}
        async with service.call("/generate/stream", body) as call:
            await service.until(lambda: ": keep-alive" in call.text)
            engine_clock.seconds += 5.0
            service.release()
            await service.until(lambda: "event: error" in call.text)
        ((name, data),) = parse_events(call.text)
        assert (name, data["error"]["code"]) == ("error", "queue_timeout")
        await running
