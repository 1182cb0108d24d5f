"""The real packages `openai` and `langchain-openai` against a real server process."""

import json

import jsonschema
import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAI

PROMPT = "The sea is wide"
USER = [{"role": "user", "content": "Tell me of the sea."}]
SCHEMA = {
    "type": "object",
    "properties": {
        "ship": {"enum": ["small", "large"]},
        "count": {"type": "integer", "maximum": 9},
    },
    "required": ["ship", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(chat_url):
    with openai.OpenAI(base_url=f"{chat_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    (served,) = client.models.list().data
    assert client.models.retrieve(served.id) == served
    return served.id


def test_a_completion_and_its_stream_are_the_same_text(client, model):
    asked = {"model": model, "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**asked)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    chunks = list(client.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text != ""
    assert chunks[-1].choices[0].finish_reason == "length"


def test_prompts_in_a_list_are_answered_in_order(client, model):
    prompts = [PROMPT, "Beams of light"]
    asked = {"model": model, "max_tokens": 6, "temperature": 0}
    many = client.completions.create(**asked, prompt=prompts)
    alone = [client.completions.create(**asked, prompt=each).choices[0].text for each in prompts]
    assert [choice.text for choice in many.choices] == alone
    assert [choice.index for choice in many.choices] == [0, 1]
    chunks = client.completions.create(**asked, prompt=prompts, stream=True)
    texts = {0: "", 1: ""}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.text
    assert list(texts.values()) == alone


def test_echo_with_logprobs_scores_a_prompt_without_new_tokens(client, model):
    asked = {"model": model, "prompt": PROMPT, "echo": True, "logprobs": 2}
    scored = client.completions.create(**asked, max_tokens=0)
    (choice,) = scored.choices
    assert choice.text == PROMPT == "".join(choice.logprobs.tokens)
    assert choice.logprobs.token_logprobs[0] is None
    assert all(logprob < 0 for logprob in choice.logprobs.token_logprobs[1:])
    assert choice.logprobs.text_offset == [
        len("".join(choice.logprobs.tokens[:at])) for at in range(len(choice.logprobs.tokens))
    ]
    assert scored.usage.completion_tokens == 0
    going_on = client.completions.create(**asked, max_tokens=3, temperature=0).choices[0]
    num_prompt = len(choice.logprobs.tokens)
    assert going_on.text.startswith(PROMPT)
    assert len(going_on.logprobs.tokens) == num_prompt + 3
    for chosen, likely in zip(
        going_on.logprobs.token_logprobs[num_prompt:],
        going_on.logprobs.top_logprobs[num_prompt:],
        strict=True,
    ):
        assert chosen == max(likely.values())


def test_beams_are_reached_through_extra_body(client, model):
    asked = {"model": model, "messages": USER, "max_tokens": 6}
    beams = {"strategy": "beam", "num_beams": 4}
    best, second = client.chat.completions.create(**asked, n=2, extra_body=beams).choices
    assert best.score >= second.score
    assert best.message.content != second.message.content
    chunks = client.chat.completions.create(**asked, extra_body=beams, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert streamed == best.message.content


def test_a_chat_streams_with_usage_and_logprobs(client, model):
    asked = {"model": model, "messages": USER, "max_completion_tokens": 8, "seed": 3}
    asked |= {"logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 8
    tokens = [
        token
        for each in chunks
        if each.choices and each.choices[0].logprobs
        for token in each.choices[0].logprobs.content
    ]
    assert [token.bytes for token in tokens] == [
        token.bytes for token in whole.choices[0].logprobs.content
    ]
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    assert whole.system_fingerprint == chunks[0].system_fingerprint


def test_answers_satisfy_a_schema(client, model):
    answer = client.chat.completions.create(
        model=model,
        messages=USER,
        max_tokens=200,
        seed=1,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "fleet", "schema": SCHEMA, "strict": True},
        },
    )
    jsonschema.validate(json.loads(answer.choices[0].message.content), SCHEMA)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("wrong", "kind", "param"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "model"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"max_tokens": 10_000_000}, openai.BadRequestError, "max_tokens"),
        ({"extra_body": {"num_beams": 3}}, openai.BadRequestError, "num_beams"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"reasoning_effort": "low"}, openai.BadRequestError, "reasoning_effort"),
    ],
)
def test_mistakes_are_the_errors_that_the_client_knows(client, model, wrong, kind, param):
    with pytest.raises(kind) as raised:
        client.chat.completions.create(**{"model": model, "messages": USER} | wrong)
    assert raised.value.param == param
    assert raised.value.body["message"]


async def test_the_async_client_cancels_by_leaving(chat_url, model, connect):
    async with openai.AsyncOpenAI(base_url=f"{chat_url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(model=model, messages=USER, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
    with connect(base_url=chat_url) as http:
        while "\nrunning_requests 0.0" not in http.get("/metrics").text:
            pass  # each look is an answer of the server, which has to notice first


def test_langchain_answers_and_streams(chat_url, model):
    chat = ChatOpenAI(
        base_url=f"{chat_url}/v1", api_key="none", model=model, temperature=0, max_tokens=8
    )
    answer = chat.invoke("Tell me of the sea.")
    assert answer.usage_metadata["output_tokens"] == 8
    streamed = "".join(chunk.content for chunk in chat.stream("Tell me of the sea."))
    assert streamed == answer.content != ""
    both = chat.batch(["Tell me of the sea.", "And of ships?"])
    assert both[0].content == answer.content


def test_langchain_gets_structured_output_and_completions(chat_url, model):
    settings = {"base_url": f"{chat_url}/v1", "api_key": "none", "model": model}
    chat = ChatOpenAI(**settings, max_tokens=200, seed=2)
    schema = {"title": "Fleet", "description": "Ships.", **SCHEMA}
    fleet = chat.with_structured_output(schema, method="json_schema").invoke("How many?")
    jsonschema.validate(fleet, SCHEMA)
    completion = OpenAI(**settings, temperature=0, max_tokens=5)
    assert completion.invoke(PROMPT) == completion.invoke(PROMPT) != ""


def test_langchain_passes_strategies_on(chat_url, model):
    chat = ChatOpenAI(
        base_url=f"{chat_url}/v1",
        api_key="none",
        model=model,
        max_tokens=5,
        extra_body={"strategy": "beam", "num_beams": 3},
    )
    assert chat.invoke("Tell me.").content == chat.invoke("Tell me.").content
