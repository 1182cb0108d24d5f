"""A draft model over HTTP: never another answer, refused where it cannot help."""

import pytest

BODY = {
    "text": "what is the best way to learn a language?",
    "max_new_tokens": 30,
    "seed": 2,
    "cache": False,
    "details": True,
}
SPEED = {"num_speculative_tokens": 5}
DRAFTED, ACCEPTED = "spec_decode_draft_tokens_total", "spec_decode_accepted_tokens_total"


def ids_of(answer):
    return [[token["id"] for token in tokens] for tokens in answer["details"]["tokens"]]


@pytest.mark.parametrize(
    "way",
    [
        {"strategy": "greedy"},
        {"strategy": "greedy", "repetition_penalty": 1.5, "logit_bias": {"7": 2.0}},
        {"strategy": "sample", "num_return_sequences": 3, "temperature": 0.3},
        {"strategy": "top_p", "stop": "the"},
        {"strategy": "best_of", "best_of": 3},
        {"strategy": "greedy", "structured_outputs": {"regex": "(ab|ba){12}"}},
        {"strategy": "greedy", "prompt_lookup_num_tokens": 3},
    ],
    ids=str,
)
async def test_the_answer_is_the_same(service, way):
    plain = await service.generate(**BODY, **way)
    drafted = service.metric(DRAFTED)
    fast = await service.generate(**BODY, **way, **SPEED)
    assert ids_of(fast) == ids_of(plain)
    for ours, theirs in zip(fast["details"]["tokens"], plain["details"]["tokens"], strict=True):
        assert [token["logprob"] for token in ours] == pytest.approx(
            [token["logprob"] for token in theirs], abs=1e-4
        )
    assert fast["generated_text"] == plain["generated_text"]
    assert fast["parameters"] == plain["parameters"] | SPEED
    assert service.metric(DRAFTED) > drafted


async def test_right_guesses_save_model_calls_and_are_counted(service):
    await service.generate(**BODY, strategy="greedy")
    calls = service.runner.num_calls
    before = {name: service.metric(name) for name in (DRAFTED, ACCEPTED)}
    await service.generate(**BODY, strategy="greedy", **SPEED)
    assert service.runner.num_calls - calls < calls / 3
    drafted, accepted = (service.metric(name) - before[name] for name in (DRAFTED, ACCEPTED))
    assert accepted == drafted > 20
    assert service.metric("spec_decode_draft_seconds_total") > 0


async def test_it_streams_the_same_text(service):
    body = {**BODY, "strategy": "greedy", "return_full_text": False}
    plain = await service.generate(**body)
    events = await service.stream(**body, **SPEED)
    text = "".join(data["text"] for name, data in events if name == "token")
    assert text == plain["generated_text"]


async def test_a_client_that_hangs_up_leaves_nothing_in_the_drafts_cache(service, draft_runner):
    service.hold(after=3)
    body = {**BODY, **SPEED, "strategy": "sample", "num_return_sequences": 3}
    async with service.call("/generate", body) as call:
        await service.held()
        assert draft_runner.cache.num_used_tokens > 0
        call.hang_up()
        service.release()
    await service.until(service.is_idle)
    assert draft_runner.cache.num_used_tokens == 0


@pytest.mark.parametrize("default_guesses", [3])
@pytest.mark.parametrize(
    ("more", "is_guessed"),
    [
        ({}, True),
        ({"num_speculative_tokens": 0}, False),
        ({"strategy": "beam"}, False),
        ({"guidance_scale": 2.0}, False),
    ],
    ids=str,
)
async def test_the_servers_setting_is_for_requests_that_do_not_say(service, more, is_guessed):
    answer = await service.generate(**BODY | {"strategy": "greedy"} | more)
    assert (service.metric(DRAFTED) > 0) is is_guessed
    assert ("num_speculative_tokens" in answer["parameters"]) is ("num_speculative_tokens" in more)


async def refusal(service, **more):
    response = await service.client.post("/generate", json={**BODY, **SPEED, **more})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["param"] == "num_speculative_tokens"
    return error["message"]


@pytest.mark.parametrize("strategy", ["beam", "mirostat", "contrastive"])
async def test_other_strategies_say_why_not(service, strategy):
    message = await refusal(service, strategy=strategy)
    assert "guesses cannot speed it up; leave this out" in message


async def test_guided_texts_say_why_not(service):
    assert "leave it out" in await refusal(service, strategy="greedy", guidance_scale=2.0)


async def test_more_guesses_than_may_be_are_refused(service):
    message = await refusal(service, strategy="greedy", num_speculative_tokens=65)
    assert "64" in message


class TestWithoutADraftModel:
    @pytest.fixture
    def draft_runner(self):
        return None

    async def test_it_is_refused(self, service):
        message = await refusal(service, strategy="greedy")
        assert message == "This server has no draft model (--draft-model); leave this out."

    async def test_no_guesses_are_what_there_is(self, service):
        await service.generate(**BODY, strategy="greedy", num_speculative_tokens=0)
        assert service.metric(DRAFTED) == 0
