"""The response cache as clients see it: what is kept, what is shared, who harms whom."""

import asyncio
import json

import pytest

PROMPT = "the quick brown"
GREEDY = {"text": PROMPT, "strategy": "greedy", "max_new_tokens": 12}


async def outcome_of(service, path="/generate", **body):
    response = await service.post(path, **body)
    assert response.status_code == 200, response.text
    return response.headers["x-cache"], response.json()


@pytest.mark.parametrize(
    "body",
    [
        {"strategy": "greedy"},
        {"strategy": "beam"},
        {"strategy": "sample", "seed": 3},
        {"strategy": "sample", "cache": True},
    ],
)
async def test_a_determined_answer_is_kept_and_given_again(service, body):
    first_outcome, first = await outcome_of(service, text=PROMPT, **body)
    calls = service.runner.num_calls
    second_outcome, second = await outcome_of(service, text=PROMPT, **body)
    assert (first_outcome, second_outcome) == ("MISS", "HIT")
    assert second == first | {"cached": True}
    assert service.runner.num_calls == calls


@pytest.mark.parametrize("body", [{"strategy": "sample"}, {"strategy": "greedy", "cache": False}])
async def test_other_answers_bypass_the_cache(service, body):
    for _ in range(2):
        outcome, answer = await outcome_of(service, text=PROMPT, **body)
        assert outcome == "BYPASS"
        assert answer["cached"] is False
    assert service.parts.cache.num_entries == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "the quick"},
        {"max_new_tokens": 11},
        {"stop": "zzz"},
        {"stop": "zzz", "include_stop_str_in_output": True},
        {"repetition_penalty": 1.1},
        {"logit_bias": {"5": 1.0}},
        {"strategy": "beam"},
        {"strategy": "sample", "seed": 1},
    ],
)
async def test_whatever_decides_the_tokens_is_part_of_the_key(service, changed):
    await outcome_of(service, **GREEDY)
    outcome, _ = await outcome_of(service, **GREEDY | changed)
    assert outcome == "MISS"


async def test_the_seed_is_part_of_the_key_only_where_it_matters(service):
    await outcome_of(service, **GREEDY)
    outcome, answer = await outcome_of(service, **GREEDY, seed=9)
    assert (outcome, answer["seed"]) == ("HIT", 9)
    body = {"text": PROMPT, "strategy": "sample"}
    await outcome_of(service, **body, seed=1)
    assert (await outcome_of(service, **body, seed=2))[0] == "MISS"


async def test_how_an_answer_is_shown_applies_to_a_hit_too(service):
    _, full = await outcome_of(service, **GREEDY)
    outcome, new = await outcome_of(service, **GREEDY, return_full_text=False, details=True)
    assert outcome == "HIT"
    assert PROMPT + new["generated_text"] == full["generated_text"]
    assert len(new["details"]["tokens"][0]) == 12


async def test_max_length_and_max_new_tokens_of_the_same_effect_share_an_answer(service):
    _, first = await outcome_of(service, **GREEDY)
    body = {"text": PROMPT, "strategy": "greedy", "max_length": first["output_length"]}
    assert (await outcome_of(service, **body))[0] == "HIT"


async def test_generate_cached_keeps_the_first_random_answer(service):
    first_outcome, first = await outcome_of(service, "/generate_cached", text=PROMPT)
    second_outcome, second = await outcome_of(service, "/generate_cached", text=PROMPT)
    assert (first_outcome, second_outcome) == ("MISS", "HIT")
    assert second["generated_text"] == first["generated_text"]
    assert second["seed"] == first["seed"]


async def test_generate_cached_refuses_to_go_without_the_cache(service):
    response = await service.post("/generate_cached", text=PROMPT, cache=False)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == "cache"


async def test_a_list_says_hit_only_if_all_its_texts_are(service):
    body = GREEDY | {"text": [PROMPT, "the dog"]}
    await outcome_of(service, **GREEDY)
    assert (await outcome_of(service, **body))[0] == "MISS"
    outcome, answer = await outcome_of(service, **body)
    assert outcome == "HIT"
    assert all(result["cached"] for result in answer["results"])


async def test_a_failure_is_not_kept(service):
    service.runner.failure = RuntimeError("device lost")
    assert (await service.post(**GREEDY)).status_code == 500
    service.runner.failure = None
    assert (await outcome_of(service, **GREEDY))[0] == "MISS"


async def test_identical_requests_in_flight_share_one_generation(service):
    service.hold()
    async with service.call("/generate", GREEDY) as leader:
        await service.held()
        followers = [asyncio.create_task(service.post(**GREEDY)) for _ in range(5)]
        streaming = asyncio.create_task(service.stream(**GREEDY))
        await service.until(lambda: service.metric("response_cache_hits_total") == 6)
        service.release()
        responses = await asyncio.gather(*followers)
        await leader.task
    expected = json.loads(leader.text)
    for response in responses:
        assert response.headers["x-cache"] == "HIT"
        assert response.json() == expected | {"cached": True}
    assert (await streaming)[-1][1] == expected | {"cached": True}
    assert service.worker.stats.num_prompt_tokens == expected["input_length"]


@pytest.mark.parametrize("path", ["/generate", "/generate/stream"])
async def test_a_leader_that_hangs_up_does_not_harm_its_followers(service, path):
    service.hold()
    async with service.call(path, GREEDY) as leader:
        await service.held()
        follower = asyncio.create_task(service.post(**GREEDY))
        await service.until(lambda: service.metric("response_cache_hits_total") == 1)
        leader.hang_up()
        await leader.task
    service.release()
    assert (await follower).status_code == 200


async def test_a_follower_that_hangs_up_harms_nobody(service):
    service.hold()
    async with service.call("/generate", GREEDY) as leader:
        await service.held()
        async with service.call("/generate", GREEDY) as follower:
            await service.until(lambda: service.metric("response_cache_hits_total") == 1)
            follower.hang_up()
        service.release()
        await leader.task
    assert leader.status == 200


async def test_a_shared_generation_ends_when_nobody_waits_any_more(service):
    service.hold()
    async with service.call("/generate", GREEDY) as leader:
        await service.held()
        async with service.call("/generate", GREEDY) as follower:
            await service.until(lambda: service.metric("response_cache_hits_total") == 1)
            leader.hang_up()
            follower.hang_up()
    service.release()
    await service.until(service.is_idle)
    assert service.worker.stats.num_cancellations == 1
    assert (await outcome_of(service, **GREEDY))[0] == "MISS"
