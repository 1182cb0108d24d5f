"""A service that shares its answers in a real Redis, as clients and operators see it.

Another replica's answer is one that is in Redis and not in this service's own memory, which these
tests therefore empty. Two processes on one Redis are in `tests/e2e/test_shared_cache.py`.
"""

import asyncio
import json

import pytest
import redis as redis_client

from app.access.key_file import KeyEntry, KeyFile, write_key_file
from app.access.keys import digest_of
from app.access.scopes import Scope
from app.generation import generator as generator_module
from app.generation.shared_cache.counts import Lookup, Write
from app.settings import Settings
from tests.app.held_clock import HeldClock

PROMPT = "the quick brown"
GREEDY = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 12}
CHAT = [{"role": "user", "content": PROMPT}]


@pytest.fixture
def settings(tmp_path, redis):
    # Generous: a busy machine must not make a lookup of these tests late.
    return Settings(
        cache_folder=tmp_path, cache_redis=redis.url, cache_redis_timeout_seconds=10.0, max_jobs=9
    )


async def forget_own(service):
    """Have what was computed in Redis only, as if another replica had computed it."""
    await service.parts.shared_cache.settled()
    service.parts.cache.clear()


def lookups(service, outcome):
    return service.metric("shared_cache_lookups_total", outcome=outcome)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", GREEDY),
        ("/generate", GREEDY | {"strategy": "beam", "num_beams": 3, "num_return_sequences": 2}),
        ("/generate", GREEDY | {"strategy": "sample", "seed": 5}),
        ("/generate", GREEDY | {"top_logprobs": 2, "prompt_logprobs": 1, "details": True}),
        ("/generate", GREEDY | {"strategy": "beam", "details": {"trace": True}}),
        ("/generate", GREEDY | {"structured_outputs": {"regex": "[a-z]{3}"}}),
        ("/generate", GREEDY | {"text": [PROMPT, "the dog"]}),
        ("/generate_cached", GREEDY),
        ("/generate/stream", GREEDY),
        ("/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 9, "details": True}}),
        ("/generate_stream", {"inputs": PROMPT, "parameters": {"max_new_tokens": 9}}),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 9, "temperature": 0}),
        ("/v1/completions", {"prompt": [PROMPT, "the dog"], "max_tokens": 9, "temperature": 0}),
        ("/v1/completions", {"prompt": PROMPT, "max_tokens": 9, "seed": 3, "stream": True}),
        ("/v1/responses", {"input": PROMPT, "max_output_tokens": 9, "temperature": 0}),
    ],
)
async def test_another_replicas_answer_is_given_as_it_was_computed(service, path, body):
    if path.startswith("/v1"):
        body = {"model": "tiny"} | body
    before = await service.post(path, **body)
    assert before.status_code == 200, before.text
    await forget_own(service)
    calls, hits = service.runner.num_calls, service.metric("response_cache_hits_total")
    after = await service.post(path, **body)
    assert after.status_code == 200, after.text
    assert service.runner.num_calls == calls
    num_texts = 2 if isinstance(body.get("text", body.get("prompt")), list) else 1
    assert lookups(service, "hit") == num_texts
    assert service.metric("response_cache_hits_total") == hits + num_texts
    assert text_of(path, after) == text_of(path, before)
    if "x-cache" in after.headers:
        assert (before.headers["x-cache"], after.headers["x-cache"]) == ("MISS", "HIT")


def text_of(path, response):
    """What was generated, without ids and times, and of streams in however many pieces."""
    if not response.headers["content-type"].startswith("text/event-stream"):
        return _without_what_changes(response.json())
    lines = [line for line in response.text.split("\n") if line.startswith("data:")]
    events = [json.loads(line[5:]) for line in lines if line.strip() != "data: [DONE]"]
    if path == "/generate/stream":
        return _without_what_changes(events[-1])
    if path == "/generate_stream":
        return events[-1]["generated_text"]
    return "".join(choice["text"] for event in events for choice in event["choices"])


def _without_what_changes(value):
    if isinstance(value, list):
        return [_without_what_changes(item) for item in value]
    if not isinstance(value, dict):
        return value
    changing = ("id", "cached", "created", "created_at", "completed_at", "timings")
    return {n: _without_what_changes(v) for n, v in value.items() if n not in changing}


async def test_job_is_answered_by_another_replicas_answer(service):
    expected = await service.generate(**GREEDY)
    await forget_own(service)
    calls = service.runner.num_calls
    job = (await service.post("/generate_async", **GREEDY)).json()
    while job["status"] in ("queued", "running"):
        await asyncio.sleep(0.001)
        job = (await service.client.get(f"/generate_async/{job['id']}")).json()
    assert job["status"] == "succeeded", job
    assert job["result"] == expected | {"cached": True}
    assert service.runner.num_calls == calls


async def test_what_was_found_is_kept_here_as_well(service):
    await service.generate(**GREEDY)
    await forget_own(service)
    for _ in range(3):
        assert (await service.generate(**GREEDY))["cached"]
    assert (lookups(service, "miss"), lookups(service, "hit")) == (1, 1)
    assert service.parts.cache.num_entries == 1


class TestWithoutMemory:
    async def test_answer_is_shared_though_this_replica_keeps_none(self, service):
        service.parts.cache._max_entries = 0
        await service.generate(**GREEDY)
        await service.parts.shared_cache.settled()
        calls = service.runner.num_calls
        for _ in range(2):
            assert (await service.generate(**GREEDY))["cached"]
        assert lookups(service, "hit") == 2
        assert service.runner.num_calls == calls


@pytest.mark.parametrize(
    "body",
    [
        {"strategy": "sample"},
        {"strategy": "sample", "cache": True},
        {"strategy": "greedy", "cache": False},
    ],
)
async def test_only_determined_answers_are_shared_and_none_against_the_clients_will(service, body):
    for _ in range(2):
        await service.generate(text=PROMPT, **body)
        await forget_own(service)
    counts = service.parts.shared_cache.counts
    assert (counts.lookups.total(), counts.writes.total()) == (0, 0)


class TestWithoutAnswers:
    """What has no whole answer is not stored."""

    @pytest.fixture
    def engine_clock(self):
        return HeldClock()

    async def test_neither_failures_nor_what_was_cut_short_or_given_up(self, service, engine_clock):
        service.runner.failure = RuntimeError("device lost")
        assert (await service.post(**GREEDY)).status_code == 500
        service.runner.failure = None
        service.hold(after=2)
        async with service.call("/generate", GREEDY | {"timeout": 60.0}) as call:
            await service.held()
            engine_clock.now += 61.0
            service.release()
            await service.until(lambda: call.status is not None)
        assert json.loads(call.text)["finish_reason"] == "timeout"
        service.hold(after=2)
        async with service.call("/generate", GREEDY) as call:
            await service.held()
            call.hang_up()
            await call.task
            service.release()
        await service.until(service.is_idle)
        await service.parts.shared_cache.settled()
        counts = service.parts.shared_cache.counts
        assert (counts.lookups, counts.writes) == ({Lookup.MISS: 3}, {})


async def test_identical_requests_share_one_lookup_and_one_generation(service):
    service.hold()
    asked = [asyncio.create_task(service.post(**GREEDY)) for _ in range(20)]
    await service.held()
    await service.until(lambda: service.metric("response_cache_hits_total") == 19)
    service.release()
    answers = [answer.json() for answer in await asyncio.gather(*asked)]
    assert len({answer["generated_text"] for answer in answers}) == 1
    assert lookups(service, "miss") == 1
    assert service.parts.shared_cache.counts.lookups.total() == 1
    assert service.worker.stats.num_prompt_tokens == answers[0]["input_length"]


async def test_other_requests_go_on_while_redis_is_silent_and_come_back_to_it(service, redis):
    shared_cache = service.parts.shared_cache
    shared_cache._timeout_seconds, now = 0.02, 0.0
    shared_cache.breaker._clock = lambda: now
    redis.freeze()
    bodies = [GREEDY | {"seed": 0, "text": f"{PROMPT} {number}"} for number in range(30)]
    for body in bodies:
        assert (await service.post(**body)).status_code == 200
    assert (lookups(service, "error"), lookups(service, "skipped")) == (5, 25)
    assert service.metric("shared_cache_breaker_state", state="open") == 1
    assert service.metric("shared_cache_breaker_openings_total") == 1
    redis.thaw()
    shared_cache._timeout_seconds = 10.0
    now += 1.0
    assert (await service.post(text=PROMPT, strategy="greedy")).status_code == 200
    assert service.metric("shared_cache_breaker_state", state="closed") == 1


async def test_texts_of_a_list_together_wait_for_a_slow_redis_no_longer_than_so(
    service, monkeypatch
):
    monkeypatch.setattr(generator_module, "LIST_PATIENCE_SECONDS", 1e-9)
    texts = [f"{PROMPT} {number}" for number in range(5)]
    await service.generate(**GREEDY | {"text": texts})
    assert (lookups(service, "miss"), lookups(service, "skipped")) == (1, 4)
    prompts = {"model": "tiny", "prompt": [f"{text}!" for text in texts], "temperature": 0}
    assert (await service.post("/v1/completions", **prompts)).status_code == 200
    assert (lookups(service, "miss"), lookups(service, "skipped")) == (2, 8)
    await service.generate(**GREEDY)
    assert lookups(service, "miss") == 3


async def test_client_that_goes_while_others_are_asked_leaves_nothing_behind(service, redis):
    redis.freeze()
    async with service.call("/generate", GREEDY) as call:
        await service.until(lambda: service.parts.shared_cache._lookups)
        call.hang_up()
    assert service.generator.num_in_flight == 0
    redis.thaw()
    await service.until(lambda: lookups(service, "miss") == 1)
    assert service.worker.stats.num_steps == 0


async def test_metrics_have_every_series_from_the_first_scrape_on(service):
    text = (await service.client.get("/metrics")).text
    for outcome in Lookup:
        assert f'shared_cache_lookups_total{{outcome="{outcome}"}} 0.0' in text
    for outcome in Write:
        assert f'shared_cache_writes_total{{outcome="{outcome}"}} 0.0' in text
    assert 'shared_cache_breaker_state{state="closed"} 1.0' in text
    await service.generate(**GREEDY)
    await service.parts.shared_cache.settled()
    for operation in ("lookup", "write"):
        assert service.metric("shared_cache_duration_seconds_count", operation=operation) == 1


async def test_poisoned_entry_is_computed_again_and_counted(service, redis):
    expected = await service.generate(**GREEDY)
    await forget_own(service)
    with redis_client.Redis(port=redis.port) as client:
        (name,) = client.keys("beamline:answers:[0-9a-f]*[0-9a-f]")
        client.setrange(name, 120, b"poison")
    assert await service.generate(**GREEDY) == expected
    assert service.metric("shared_cache_corrupt_total", reason="seal") == 1
    await forget_own(service)
    assert await service.generate(**GREEDY) == expected | {"cached": True}


class TestKeys:
    """API keys share answers only where an operator says so."""

    @pytest.fixture
    def crosses_keys(self):
        return False

    @pytest.fixture
    def settings(self, tmp_path, redis, crosses_keys):
        entries = [
            KeyEntry(
                name=name,
                sha256=digest_of(f"the-key-of-{name}".encode()).hex(),
                scopes=[Scope.GENERATE, Scope.ADMIN],
                tokens_per_minute=1000,
            )
            for name in ("alice", "bob")
        ]
        write_key_file(tmp_path / "keys.json", KeyFile(keys=entries))
        return Settings(
            cache_folder=tmp_path,
            keys_file=tmp_path / "keys.json",
            cache_redis=redis.url,
            cache_redis_timeout_seconds=10.0,
            cache_across_keys=crosses_keys,
        )

    async def ask(self, service, name, method="POST", path="/generate", body=GREEDY):
        headers = {"Authorization": f"Bearer the-key-of-{name}"}
        answer = await service.client.request(
            method, path, json=body if method == "POST" else None, headers=headers
        )
        assert answer.status_code == 200, answer.text
        return answer

    async def outcomes(self, service):
        """Of alice, of bob, and of both when only Redis has answers."""
        found = [(await self.ask(service, name)).headers["x-cache"] for name in ("alice", "bob")]
        await forget_own(service)
        return [
            *found,
            *[(await self.ask(service, name)).headers["x-cache"] for name in ("alice", "bob")],
        ]

    async def test_keys_do_not_see_each_others_answers(self, service):
        assert await self.outcomes(service) == ["MISS", "MISS", "HIT", "HIT"]
        assert lookups(service, "hit") == 2

    async def test_keys_do_not_join_each_others_generations(self, service):
        service.hold()
        asked = [asyncio.create_task(self.ask(service, name)) for name in ("alice", "bob")]
        await service.held()
        await service.until(lambda: service.metric("response_cache_misses_total") == 2)
        service.release()
        assert [answer.headers["x-cache"] for answer in await asyncio.gather(*asked)] == [
            *("MISS", "MISS"),
        ]

    @pytest.mark.parametrize("crosses_keys", [True])
    async def test_keys_share_answers_where_an_operator_says_so(self, service):
        assert await self.outcomes(service) == ["MISS", "HIT", "HIT", "HIT"]
        assert lookups(service, "hit") == 1

    async def test_another_replicas_answer_costs_no_tokens(self, service):
        await self.ask(service, "alice")
        await forget_own(service)
        await service.parts.gate.limiter.settled()
        used = service.metric("api_key_tokens_total", key="alice")
        await self.ask(service, "alice")
        assert service.metric("api_key_tokens_total", key="alice") == used

    async def test_client_that_goes_while_others_are_asked_pays_nothing(self, service, redis):
        redis.freeze()
        async with service.call("/generate", GREEDY, secret="the-key-of-alice") as call:
            await service.until(lambda: service.parts.shared_cache._lookups)
            call.hang_up()
        redis.thaw()
        await service.parts.gate.limiter.settled()
        assert service.metric("api_key_tokens_total", key="alice") == 0
        answer = await self.ask(service, "alice", body=GREEDY | {"max_new_tokens": 1})
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 950

    async def test_operator_sees_the_shared_cache_and_clears_it(self, service):
        await self.ask(service, "alice")
        await forget_own(service)
        await self.ask(service, "alice")
        report = (await self.ask(service, "alice", "GET", "/admin/cache")).json()
        assert report["shared_cache"] == {
            "state": "closed",
            "lookups": {"hit": 1, "miss": 1, "error": 0, "skipped": 0},
            "writes": {"stored": 1, "error": 0, "skipped": 0, "dropped": 0, "too_large": 0},
            "damaged_entries": 0,
            "pending_writes": 0,
        }
        cleared = (await self.ask(service, "alice", "DELETE", "/admin/cache")).json()
        assert cleared["entries"] == 1
        assert (await self.ask(service, "alice")).headers["x-cache"] == "MISS"

    async def test_operator_is_told_when_redis_does_not_forget(self, service, redis):
        await self.ask(service, "alice")
        redis.kill()
        answer = await service.client.request(
            "DELETE", "/admin/cache", headers={"Authorization": "Bearer the-key-of-alice"}
        )
        assert answer.status_code == 503
        assert "Redis does not answer" in answer.json()["error"]["message"]
        assert service.parts.cache.num_entries == 0
