"""Keys are held to their requests and tokens a minute, each to its own, over a whole service."""

import asyncio

import httpx
import pytest

from app.access.key_file import KeyEntry, KeyFile, write_key_file
from app.access.keys import digest_of
from app.access.scopes import Scope
from app.settings import Settings
from tests.app.driven_service import stop_within

TEXT = "Hello"


def secret_of(name):
    return f"the-key-of-{name}"


def entry(name, **limits):
    return KeyEntry(
        name=name,
        sha256=digest_of(secret_of(name).encode()).hex(),
        scopes=[Scope.GENERATE],
        **limits,
    )


@pytest.fixture
def settings(tmp_path):
    entries = [
        entry("few", requests_per_minute=3),
        entry("more", requests_per_minute=6),
        entry("short", tokens_per_minute=40),
        entry("long", tokens_per_minute=100),
        entry("both", requests_per_minute=100, tokens_per_minute=1000),
        entry("free", requests_per_minute="unlimited"),
    ]
    write_key_file(tmp_path / "keys.json", KeyFile(keys=entries))
    return Settings(cache_folder=tmp_path, keys_file=tmp_path / "keys.json", requests_per_minute=50)


async def ask(service, name, path="/generate", **body):
    body = {"text": TEXT, "strategy": "greedy", "cache": False, "max_new_tokens": 4} | body
    headers = {"Authorization": f"Bearer {secret_of(name)}"}
    return await service.client.post(path, json=body, headers=headers)


async def statuses(service, calls):
    answers = await asyncio.gather(*(ask(service, name, **body) for name, body in calls))
    return [(name, answer.status_code) for (name, _), answer in zip(calls, answers, strict=True)]


@pytest.fixture
def num_prompt_tokens(byte_level_tokenizer):
    return len(byte_level_tokenizer(TEXT).input_ids)


async def test_two_keys_under_load_get_as_many_requests_as_each_may(service):
    found = await statuses(service, [("few", {}), ("more", {})] * 12)
    assert found.count(("few", 200)) == 3
    assert found.count(("few", 429)) == 9
    assert found.count(("more", 200)) == 6
    assert found.count(("more", 429)) == 6
    assert service.metric("api_key_rate_limited_total", key="few", unit="requests") == 9


async def test_two_keys_under_load_get_as_many_tokens_as_each_may(service, num_prompt_tokens):
    cost = num_prompt_tokens + 8
    calls = [("short", {"max_new_tokens": 8}), ("long", {"max_new_tokens": 8})] * 12
    found = await statuses(service, calls)
    assert found.count(("short", 200)) == 40 // cost
    assert found.count(("long", 200)) == 100 // cost
    for name, limit in (("short", 40), ("long", 100)):
        used = service.metric("api_key_tokens_total", key=name)
        assert used == (limit // cost) * cost <= limit


async def test_refusal_says_what_is_left_and_when_to_come_back(service, wall_clock):
    for left in (2, 1, 0):
        answer = await ask(service, "few")
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        assert answer.headers["x-ratelimit-reset-requests"] == "60s"
        assert "x-ratelimit-limit-tokens" not in answer.headers
    wall_clock.now += 20
    refused = await ask(service, "few")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "40"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "3 requests a minute" in refused.json()["error"]["message"]
    wall_clock.now += 40
    assert (await ask(service, "few")).status_code == 200


async def test_tokens_that_were_not_needed_are_the_keys_again(service, num_prompt_tokens):
    whole = (await ask(service, "both", max_new_tokens=60)).json()["generated_text"]
    await service.parts.gate.limiter.settled()
    stop = stop_within(whole.removeprefix(TEXT))
    before = service.metric("api_key_tokens_total", key="both")
    answer = await ask(service, "both", max_new_tokens=60, stop=stop, details=True)
    assert answer.status_code == 200
    used = service.metric("api_key_tokens_total", key="both") - before
    assert num_prompt_tokens < used < num_prompt_tokens + 60
    reserved = int(answer.headers["x-ratelimit-remaining-tokens"])
    assert reserved == 1000 - before - num_prompt_tokens - 60
    await service.parts.gate.limiter.settled()
    last = await ask(service, "both", max_new_tokens=1)
    left = int(last.headers["x-ratelimit-remaining-tokens"])
    assert left == 1000 - before - used - num_prompt_tokens - 1


async def test_every_row_counts_also_those_that_lose(service, num_prompt_tokens):
    await ask(service, "both", strategy="beam", num_beams=4, max_new_tokens=5)
    used = service.metric("api_key_tokens_total", key="both")
    assert used == num_prompt_tokens + 4 * 5


async def test_answer_from_the_cache_costs_a_request_and_no_tokens(service):
    first = await ask(service, "both", cache=True)
    await service.parts.gate.limiter.settled()
    used = service.metric("api_key_tokens_total", key="both")
    second = await ask(service, "both", cache=True)
    assert second.headers["x-cache"] == "HIT"
    await service.parts.gate.limiter.settled()
    assert service.metric("api_key_tokens_total", key="both") == used
    third = await ask(service, "both", cache=True)
    remaining = "x-ratelimit-remaining-requests"
    assert int(third.headers[remaining]) == int(first.headers[remaining]) - 2
    assert (
        third.headers["x-ratelimit-remaining-tokens"]
        == (second.headers["x-ratelimit-remaining-tokens"])
    )


async def test_who_joins_and_stays_pays_for_what_whoever_left_did_not(service, num_prompt_tokens):
    body = {"text": TEXT, "strategy": "greedy", "max_new_tokens": 12}
    secret = secret_of("both")
    service.hold()
    async with service.call("/generate", body, secret=secret) as first:
        await service.held()
        async with service.call("/generate", body, secret=secret) as second:
            await service.until(lambda: service.metric("response_cache_hits_total") == 1)
            first.hang_up()
            await first.task
            service.release()
            await second.task
    assert second.status == 200
    await service.parts.gate.limiter.settled()
    assert service.metric("api_key_tokens_total", key="both") == num_prompt_tokens + 12


async def test_text_that_may_never_fit_is_refused_by_its_field(service):
    answer = await ask(service, "short", max_new_tokens=40)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("max_new_tokens", "token_limit_exceeded")
    assert "40 a minute" in error["message"]
    assert (await ask(service, "short", max_new_tokens=10)).status_code == 200


async def test_refused_text_of_a_list_leaves_the_others(service, num_prompt_tokens):
    fits = 40 // (num_prompt_tokens + 8)
    answer = await ask(service, "short", text=[TEXT] * (fits + 1), max_new_tokens=8)
    assert answer.status_code == 200
    kinds = ["error" in result for result in answer.json()["results"]]
    assert kinds == [False] * fits + [True]
    assert answer.json()["results"][-1]["error"]["code"] == "rate_limit_exceeded"


async def test_streams_jobs_and_scores_count_too(service, num_prompt_tokens):
    stream = await ask(service, "both", "/generate/stream")
    assert "event: done" in stream.text
    assert service.metric("api_key_tokens_total", key="both") == num_prompt_tokens + 4
    await ask(service, "both", "/generate_async")
    await service.until(
        lambda: service.metric("api_key_tokens_total", key="both") == 2 * (num_prompt_tokens + 4)
    )
    headers = {"Authorization": f"Bearer {secret_of('both')}"}
    body = {"text": TEXT, "continuations": [TEXT]}
    answer = await service.client.post("/score", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    used = service.metric("api_key_tokens_total", key="both")
    assert used == 2 * (num_prompt_tokens + 4) + 2 * num_prompt_tokens


async def test_request_that_the_queue_refuses_costs_no_tokens(service):
    service.worker._max_waiting_requests = 0
    answer = await ask(service, "both")
    assert answer.json()["error"]["code"] == "queue_full"
    await service.parts.gate.limiter.settled()
    service.worker._max_waiting_requests = 64
    assert service.metric("api_key_tokens_total", key="both") == 0
    answer = await ask(service, "both", max_new_tokens=1)
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) > 990


async def test_defaults_hold_keys_without_limits_of_their_own(service):
    assert (await ask(service, "short")).headers["x-ratelimit-limit-requests"] == "50"
    assert "x-ratelimit-limit-requests" not in (await ask(service, "free")).headers


async def test_a_request_that_its_host_brings_again_is_counted_once(service):
    async def brought_again(scope, receive, send):
        await service.app({**scope, "state": {"is_counted": True}}, receive, send)

    headers = {"Authorization": f"Bearer {secret_of('few')}"}
    body = {"text": TEXT, "strategy": "greedy", "max_new_tokens": 4}
    transport = httpx.ASGITransport(brought_again)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as host:
        again = [await host.post("/generate", json=body, headers=headers) for _ in range(4)]
    assert [each.status_code for each in again] == [200] * 4
    first = [(await ask(service, "few")).status_code for _ in range(4)]
    assert first == [200, 200, 200, 429]


async def test_looking_at_a_job_is_not_a_request(service):
    headers = {"Authorization": f"Bearer {secret_of('few')}"}
    for _ in range(5):
        answer = await service.client.get("/generate_async/none", headers=headers)
        assert answer.status_code == 404


class TestInRedis:
    @pytest.fixture
    def settings(self, tmp_path, redis):
        write_key_file(tmp_path / "keys.json", KeyFile(keys=[entry("few", requests_per_minute=3)]))
        return Settings(
            cache_folder=tmp_path,
            keys_file=tmp_path / "keys.json",
            rate_limit_redis=redis.url,
            tokens_per_minute=1000,
        )

    async def test_dead_redis_costs_no_request_and_limits_go_on_here(self, service, redis):
        found = await statuses(service, [("few", {})] * 2)
        assert found == [("few", 200)] * 2
        redis.kill()
        found = await statuses(service, [("few", {})] * 5)
        assert found.count(("few", 200)) == 3
        assert found.count(("few", 429)) == 2
        await service.parts.gate.close()
