"""`POST /v1/chat/completions` on a real engine: what comes back, whole and streamed."""

import json

import pytest

from tests.app.openai.asking import chat, chat_stream, refusal, said

USER = [{"role": "user", "content": "what is the best way"}]
RENDERED = "<|user|>what is the best way\n<|assistant|>"


async def test_a_chat_is_what_generate_makes_of_its_rendered_conversation(service):
    answer = await chat(service, messages=USER, temperature=0, max_tokens=6)
    ours = await service.generate(
        text=RENDERED, strategy="greedy", max_new_tokens=6, return_full_text=False
    )
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": ours["generated_text"],
        "refusal": None,
    }
    assert choice["finish_reason"] == "length"
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    assert answer["system_fingerprint"] == ours["fingerprint"]
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (ours["input_length"], 6)
    assert usage["total_tokens"] == ours["output_length"]


async def test_the_id_is_that_of_the_request(service):
    response = await service.client.post(
        "/v1/chat/completions",
        json={"messages": USER, "max_tokens": 1},
        headers={"X-Request-Id": "abc-1"},
    )
    assert response.json()["id"] == "chatcmpl-abc-1"


async def test_a_stream_says_the_same_as_the_whole_answer(service):
    asked = {"messages": USER, "n": 2, "seed": 3, "max_tokens": 6, "cache": False}
    whole = await chat(service, **asked)
    chunks = await chat_stream(service, **asked, stream_options={"include_usage": True})
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    for index, choice in enumerate(whole["choices"]):
        deltas = [each for chunk in chunks for each in chunk["choices"] if each["index"] == index]
        assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(each["delta"].get("content", "") for each in deltas) == said(whole, index)
        assert [each["finish_reason"] for each in deltas][-1] == choice["finish_reason"]
        assert {each["finish_reason"] for each in deltas[:-1]} == {None}
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    usage = dict(chunks[-1]["usage"], prompt_tokens_details=None)
    assert usage == dict(whole["usage"], prompt_tokens_details=None)


@pytest.mark.parametrize("strategy", ["beam", "best_of", "greedy"])
async def test_logprobs_of_a_stream_are_those_of_the_whole_answer(service, strategy):
    asked = {
        "messages": USER,
        "strategy": strategy,
        "max_tokens": 6,
        "seed": 1,
        "logprobs": True,
        "top_logprobs": 2,
    }
    (choice,) = (await chat(service, **asked))["choices"]
    tokens = choice["logprobs"]["content"]
    chunks = await chat_stream(service, **asked, cache=False)
    streamed = [
        token
        for chunk in chunks
        for each in chunk["choices"]
        for token in (each["logprobs"] or {"content": []})["content"]
    ]
    assert [token["bytes"] for token in tokens] == [token["bytes"] for token in streamed]
    for token, other in zip(tokens, streamed, strict=True):
        assert token["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
        assert len(token["top_logprobs"]) == len(other["top_logprobs"]) == 2
    text = b"".join(bytes(token["bytes"]) for token in tokens).decode(errors="replace")
    assert text == choice["message"]["content"]


async def test_a_mistake_is_a_400_in_the_envelope_of_openai(service):
    response = await service.post("/v1/chat/completions", messages=USER, temperature=-1)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == "temperature"


async def test_another_model_is_not_found(service):
    response = await service.post("/v1/chat/completions", messages=USER, model="other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert await refusal(service, messages=USER, model="tiny", n=0) == "n"


async def test_a_failure_before_the_first_token_of_a_stream_has_its_status(service):
    service.runner.failure = RuntimeError("broken")
    response = await service.post("/v1/chat/completions", messages=USER, stream=True)
    service.runner.failure = None
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "step_failed"


async def test_a_chat_may_take_so_long_and_waits_so_long(service):
    late = await service.post("/v1/chat/completions", messages=USER, timeout=1e-9)
    assert late.status_code == 503
    assert late.json()["error"]["code"] == "queue_timeout"
    assert await refusal(service, messages=USER, priority="high") == "priority"


async def test_a_failure_in_a_stream_is_told_in_it(service):
    tokens = (await service.post("/tokenize", text="a")).json()["tokens"]
    service.hold(after=1)
    body = {"messages": USER, "stream": True, "max_tokens": 30}
    # Nothing is sent for a token that is half a character, so this one is always drawn.
    body["logit_bias"] = {str(tokens[-1]): 100}
    async with service.call("/v1/chat/completions", body) as call:
        await service.held()
        await service.until(lambda: "chat.completion.chunk" in call.text)
        service.runner.failure = RuntimeError("broken")
        service.release()
        await call.task
    *frames, done = call.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    error = json.loads(frames[-1].removeprefix("data: "))["error"]
    assert error["code"] == "step_failed"
    service.runner.failure = None
