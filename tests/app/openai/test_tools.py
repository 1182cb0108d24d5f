"""`tools` of `POST /v1/chat/completions`: calls always parse and satisfy their schemas."""

import json

import pytest
from jsonschema import Draft202012Validator

from decoding.registry import STRATEGIES
from tests.app.openai.asking import CHAT, chat, chat_stream, refusal, said

LEVEL = {
    "type": "object",
    "properties": {"level": {"enum": [1, 2, 3]}, "deep": {"type": "boolean"}},
    "required": ["level"],
    "additionalProperties": False,
}
PING = {"type": "function", "function": {"name": "ping", "description": "Answers."}}
SET = {"type": "function", "function": {"name": "set_level", "parameters": LEVEL}}
NAMED = {"type": "function", "function": {"name": "set_level"}}
USER = [{"role": "user", "content": "dive"}]
ASKED = {"messages": USER, "tools": [PING, SET], "max_tokens": 800, "cache": False}


@pytest.fixture(scope="module")
def byte_level_tokenizer(tool_tokenizer):
    return tool_tokenizer


@pytest.fixture(scope="module")
def tiny_runner(tool_runner):
    return tool_runner


@pytest.fixture(scope="module")
def draft_runner(tool_draft_runner):
    return tool_draft_runner


@pytest.fixture(scope="module")
def calling(tool_tokenizer):
    """A bias under which the model begins a call at once, and later says nothing of the kind."""
    return {str(tool_tokenizer.convert_tokens_to_ids("<tool_call>")): 100.0}


def calls_of(answer, index=0):
    """Names and arguments of an answer's calls, each checked."""
    choice = answer["choices"][index]
    calls = choice["message"]["tool_calls"]
    for call in calls:
        assert call["type"] == "function"
        schema = LEVEL if call["function"]["name"] == "set_level" else {"maxProperties": 0}
        Draft202012Validator(schema).validate(json.loads(call["function"]["arguments"]))
    assert len({call["id"] for call in calls}) == len(calls)
    assert choice["finish_reason"] == "tool_calls"
    return [call["function"]["name"] for call in calls]


@pytest.mark.parametrize("seed", range(4))
async def test_a_required_call_is_made_and_nothing_is_said(service, seed):
    answer = await chat(service, **ASKED, tool_choice="required", seed=seed)
    assert set(calls_of(answer)) <= {"ping", "set_level"}
    assert said(answer) is None


async def test_the_named_function_is_called_once(service):
    for seed in range(4):
        answer = await chat(service, **ASKED, tool_choice=NAMED, seed=seed)
        assert calls_of(answer) == ["set_level"]


async def test_of_allowed_tools_one_is_called(service):
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "ping"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    answer = await chat(service, **ASKED, tool_choice=choice, seed=0)
    assert set(calls_of(answer)) == {"ping"}


async def test_an_answer_is_free_until_it_calls(service, calling):
    plain = await chat(service, messages=USER, max_tokens=12, seed=1)
    free = await chat(service, **(ASKED | {"max_tokens": 12}), seed=1)
    assert said(free)
    assert "tool_calls" not in free["choices"][0]["message"]
    assert free["choices"][0]["finish_reason"] == "length"
    assert said(free) != said(plain), "the model is told of the tools"
    called = await chat(service, **ASKED, seed=1, logit_bias=calling)
    assert calls_of(called)
    assert said(called) is None


async def test_the_model_is_told_nothing_where_it_must_not_call(service, calling):
    asked = {"messages": USER, "max_tokens": 6, "temperature": 0}
    without = await chat(service, **asked)
    none = await chat(service, **asked, tools=[PING, SET], tool_choice="none")
    assert said(none) == said(without)
    assert none["usage"]["prompt_tokens"] == without["usage"]["prompt_tokens"]
    marked = await chat(service, **asked, tools=[PING], tool_choice="none", logit_bias=calling)
    assert said(marked) == "<tool_call>" * 6, "it is text"


async def test_calls_can_be_several_unless_told_otherwise(service):
    numbers = set()
    for seed in range(2):
        # The model's end token never comes while it may go on.
        asked = ASKED | {"max_tokens": 110, "seed": seed, "tools": [PING]}
        both = [
            await chat(service, **asked, tool_choice="required", logit_bias={"1": -100.0}, **more)
            for more in ({}, {"parallel_tool_calls": False})
        ]
        several, single = (each["choices"][0]["message"]["tool_calls"] for each in both)
        numbers.add(len(several))
        assert len(single) == 1
    assert max(numbers) > 1


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
async def test_every_strategy_calls(service, strategy):
    answer = await chat(service, **ASKED, strategy=strategy, tool_choice=NAMED, seed=5)
    assert calls_of(answer) == ["set_level"]


@pytest.mark.parametrize(
    "asked",
    [
        {"tool_choice": "required", "n": 2},
        {"tool_choice": NAMED, "strategy": "beam", "num_beams": 3, "n": 2},
        {"tool_choice": "auto", "temperature": 0},
        {"tool_choice": "required", "max_tokens": 30, "logprobs": True},
    ],
    ids=["drawn", "beams", "said", "cut"],
)
async def test_a_stream_tells_what_the_whole_answer_does(service, asked):
    asked = ASKED | {"seed": 7, "max_tokens": 700} | asked
    if asked["tool_choice"] == "auto":
        asked["max_tokens"] = 20
    whole = await chat(service, **asked)
    chunks = await chat_stream(service, **asked)
    for index, choice in enumerate(whole["choices"]):
        deltas = [each for chunk in chunks for each in chunk["choices"] if each["index"] == index]
        calls = []
        for delta in (each["delta"] for each in deltas):
            for part in delta.get("tool_calls", []):
                if "id" in part:
                    assert part["index"] == len(calls)
                    calls.append({"name": part["function"]["name"], "arguments": ""})
                calls[part["index"]]["arguments"] += part["function"]["arguments"]
        message = choice["message"]
        assert calls == [call["function"] for call in message.get("tool_calls", [])]
        text = "".join(each["delta"].get("content") or "" for each in deltas)
        assert text == (message["content"] or "")
        assert deltas[-1]["finish_reason"] == choice["finish_reason"]
        if choice["logprobs"] is not None:
            told = [each["logprobs"]["content"] for each in deltas if each["logprobs"]]
            assert [each for part in told for each in part] == choice["logprobs"]["content"]


async def test_a_call_that_the_limit_cuts_ends_with_length(service):
    answer = await chat(service, **(ASKED | {"max_tokens": 45}), tool_choice=NAMED, seed=0)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "set_level"
    with pytest.raises(json.JSONDecodeError):
        json.loads(call["function"]["arguments"])


async def test_a_conversation_goes_on_after_its_calls(service):
    first = await chat(service, **ASKED, tool_choice=NAMED, seed=2)
    message = first["choices"][0]["message"]  # sent back as it came, nulls included
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "done"}
    turns = [*USER, message, result]
    answer = await chat(service, messages=turns, temperature=0, max_tokens=5)
    arguments = json.loads(message["tool_calls"][0]["function"]["arguments"])
    written = json.dumps({"name": "set_level", "arguments": arguments})
    ours = await service.generate(
        text=f"<|user|>dive<|assistant|><tool_call>{written}</tool_call><|tool|>done<|assistant|>",
        strategy="greedy",
        max_new_tokens=5,
        return_full_text=False,
    )
    assert said(answer) == ours["generated_text"]


async def test_what_is_not_called_can_be_held_to_a_schema(service, calling):
    schema = {"type": "json_schema", "json_schema": {"name": "level", "schema": LEVEL}}
    asked = ASKED | {"response_format": schema, "seed": 3}
    silent = dict.fromkeys(calling, -100.0) | {"400": -100.0}
    answer = await chat(service, **asked, logit_bias=silent)
    if answer["choices"][0]["finish_reason"] == "stop":
        Draft202012Validator(LEVEL).validate(json.loads(said(answer)))
    called = await chat(service, **asked, logit_bias=calling)
    assert calls_of(called)


async def test_an_identical_request_with_another_choice_is_another(service):
    asked = ASKED | {"temperature": 0, "cache": True}
    one = await chat(service, **asked, tool_choice=NAMED)
    other = {"type": "function", "function": {"name": "ping"}}
    two = await chat(service, **asked, tool_choice=other)
    assert (calls_of(one), calls_of(two)) == (["set_level"], ["ping"])


CALL = {"id": "c", "type": "function", "function": {"name": "ping", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"tools": [SET, SET]}, "tools"),
        (
            {"tools": [SET], "tool_choice": {"type": "function", "function": {"name": "no"}}},
            "tool_choice",
        ),
        ({"tools": [SET], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]},
            "tools.0.function.parameters",
        ),
        (
            {
                "tools": [
                    SET,
                    {
                        "type": "function",
                        "function": {"name": "f", "parameters": {"required": ["a"], "not": {}}},
                    },
                ]
            },
            "tools.1.function.parameters",
        ),
        (
            {"tools": [SET], "tool_choice": "required", "response_format": {"type": "json_object"}},
            "tool_choice",
        ),
        ({"tools": [SET], "structured_outputs": {"regex": "a+"}}, "tools"),
        (
            {"messages": [*USER, {"role": "tool", "tool_call_id": "c", "content": "x"}]},
            "messages.1.tool_call_id",
        ),
        ({"messages": [*USER, {"role": "assistant", "tool_calls": [CALL]}]}, "messages"),
        ({"messages": [*USER, {"role": "user", "tool_calls": [CALL]}]}, "messages.1"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": [*USER, {"role": "tool", "content": "x"}]}, "messages.1"),
        (
            {
                "messages": [
                    *USER,
                    {
                        "role": "assistant",
                        "tool_calls": [CALL | {"function": {"name": "f", "arguments": "{"}}],
                    },
                ]
            },
            "messages.1.tool_calls.0.function.arguments",
        ),
    ],
)
async def test_what_cannot_be_is_refused_by_field(service, body, param):
    assert await refusal(service, **({"messages": USER} | body)) == param


HALF = "\ud83d"  # of a surrogate pair


async def test_half_characters_are_refused_and_not_rendered(service):
    function = {"name": "ping", "parameters": {"type": "object", "description": HALF}}
    asked = ASKED | {"tools": [{"type": "function", "function": function}]}
    response = await service.client.post(
        CHAT, content=json.dumps(asked), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith("tools")


@pytest.mark.parametrize("arguments", [json.dumps({"a": HALF}), '{"a":' * 600 + "1" + "}" * 600])
async def test_arguments_that_no_template_can_write_are_refused(service, arguments):
    call = {"id": "1", "type": "function", "function": {"name": "ping", "arguments": arguments}}
    messages = [
        *USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    assert (await refusal(service, **ASKED | {"messages": messages})).startswith("messages")
