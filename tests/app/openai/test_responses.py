"""`POST /v1/responses` on a real engine: what comes back, whole and streamed."""

import json

import pytest
from jsonschema import Draft202012Validator

from decoding.registry import STRATEGIES
from tests.app.driven_service import parse_events
from tests.app.openai.asking import ask, chat, refusal, said
from tests.app.openai.test_tools import LEVEL

RESPONSES = "/v1/responses"
PING = {"type": "function", "name": "ping", "description": "Answers."}
SET = {"type": "function", "name": "set_level", "parameters": LEVEL, "strict": True}
NAMED = {"type": "function", "name": "set_level"}
SAID = {"input": "dive", "max_output_tokens": 8, "temperature": 0}
CALLED = {"input": "dive", "max_output_tokens": 800, "tools": [PING, SET], "seed": 4}


@pytest.fixture(scope="module")
def byte_level_tokenizer(tool_tokenizer):
    return tool_tokenizer


@pytest.fixture(scope="module")
def tiny_runner(tool_runner):
    return tool_runner


@pytest.fixture(scope="module")
def draft_runner(tool_draft_runner):
    return tool_draft_runner


async def respond(service, **body):
    return await ask(service, RESPONSES, **body)


async def events_of(service, **body):
    response = await service.post(RESPONSES, **body, stream=True)
    assert response.status_code == 200, response.text
    events = parse_events(response.text)
    assert [name for name, _ in events] == [data["type"] for _, data in events]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    return [data for _, data in events]


def without_ids(response):
    """What is the same each time."""
    items = [
        {name: value for name, value in item.items() if name not in ("id", "call_id")}
        for item in response["output"]
    ]
    usage = {**response["usage"], "input_tokens_details": None}
    return response | {"id": "", "created_at": 0, "output": items, "usage": usage}


async def test_a_response_says_what_a_chat_does(service):
    answer = await respond(service, **SAID, instructions="be brief", metadata={"a": "b"})
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "dive"}]
    same = await chat(service, messages=turns, max_tokens=8, temperature=0)
    (item,) = answer["output"]
    assert item["content"] == [
        {"type": "output_text", "text": said(same), "annotations": [], "logprobs": []}
    ]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "incomplete")
    assert (answer["object"], answer["status"]) == ("response", "incomplete")
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]
    assert answer["usage"]["output_tokens"] == 8
    assert answer["instructions"] == "be brief"
    assert answer["metadata"] == {"a": "b"}
    assert answer["system_fingerprint"] == same["system_fingerprint"]
    assert answer["store"] is False


async def test_items_are_a_conversation(service):
    first = await respond(service, **CALLED, tool_choice=NAMED)
    (call,) = first["output"]
    assert first["status"] == call["status"] == "completed"
    Draft202012Validator(LEVEL).validate(json.loads(call["arguments"]))
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}
    question = {"role": "user", "content": [{"type": "input_text", "text": "dive"}]}
    answer = await respond(
        service, input=[question, call, result], temperature=0, max_output_tokens=5
    )
    function = {"name": "set_level", "arguments": call["arguments"]}
    turns = [
        {"role": "user", "content": "dive"},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": function}]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    same = await chat(service, messages=turns, max_tokens=5, temperature=0)
    assert answer["output"][0]["content"][0]["text"] == said(same)
    # What was said is sent back as it came, too.
    spoken = [question, call, result, *answer["output"], {"role": "user", "content": "on"}]
    more = await respond(service, input=spoken, temperature=0, max_output_tokens=5)
    turns += [{"role": "assistant", "content": said(same)}, {"role": "user", "content": "on"}]
    same = await chat(service, messages=turns, max_tokens=5, temperature=0)
    assert more["output"][0]["content"][0]["text"] == said(same)


def check_growth(events, output):
    """Every item is announced, grows to what it is said to be, and is closed; gives the kinds."""
    grown, kinds = [], []
    for event in events:
        kinds.append(event["type"].removeprefix("response."))
        match kinds[-1]:
            case "output_item.added":
                assert event["output_index"] == len(grown)
                assert event["item"]["status"] == "in_progress"
                grown.append("")
            case "output_text.delta" | "function_call_arguments.delta":
                assert event["output_index"] == len(grown) - 1
                grown[-1] += event["delta"]
            case "output_text.done":
                assert event["text"] == grown[-1]
            case "function_call_arguments.done":
                assert event["arguments"] == grown[-1]
            case "output_item.done":
                assert event["item"] == output[event["output_index"]]
    return kinds


@pytest.mark.parametrize(
    "asked",
    [
        SAID,
        SAID | {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        CALLED | {"tool_choice": "required"},
        CALLED | {"tool_choice": NAMED, "max_output_tokens": 40},
        CALLED | {"max_output_tokens": 9},
        SAID | {"text": {"format": {"type": "json_object"}}},
    ],
    ids=["said", "logprobs", "called", "cut", "free", "json"],
)
async def test_a_stream_tells_the_response_item_by_item(service, asked):
    asked = asked | {"cache": False}
    whole = await respond(service, **asked)
    created, running, *events, ended = await events_of(service, **asked)
    assert (created["type"], running["type"]) == ("response.created", "response.in_progress")
    assert created["response"]["output"] == []
    assert ended["type"] == f"response.{whole['status']}"
    assert without_ids(ended["response"]) == without_ids(whole)
    kinds = check_growth(events, ended["response"]["output"])
    steps = list(dict.fromkeys(kinds))
    if whole["output"][0]["type"] == "message":
        assert steps == [
            *("output_item.added", "content_part.added", "output_text.delta"),
            *("output_text.done", "content_part.done", "output_item.done"),
        ]
        told = [each for event in events for each in event.get("logprobs", []) if "delta" in event]
        assert told == whole["output"][0]["content"][0]["logprobs"][: len(told)]
        assert bool(told) is ("include" in asked)
    else:
        assert steps == [
            *("output_item.added", "function_call_arguments.delta"),
            *("function_call_arguments.done", "output_item.done"),
        ]


async def test_log_probabilities_are_those_of_a_chat(service):
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = await respond(service, **SAID, **asked)
    turns = [{"role": "user", "content": "dive"}]
    more = {"logprobs": True, "top_logprobs": 2, "max_tokens": 8, "temperature": 0}
    same = await chat(service, messages=turns, **more)
    told = answer["output"][0]["content"][0]["logprobs"]
    assert told == same["choices"][0]["logprobs"]["content"]


async def test_text_is_held_to_a_schema(service):
    form = {"type": "json_schema", "name": "level", "schema": LEVEL}
    answer = await respond(
        service, input="dive", max_output_tokens=800, seed=2, text={"format": form}
    )
    assert answer["status"] == "completed"
    Draft202012Validator(LEVEL).validate(json.loads(answer["output"][0]["content"][0]["text"]))
    assert answer["text"]["format"] == form


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
async def test_every_strategy_responds(service, strategy):
    answer = await respond(service, input="dive", max_output_tokens=6, strategy=strategy, seed=1)
    turns = [{"role": "user", "content": "dive"}]
    same = await chat(service, messages=turns, max_tokens=6, strategy=strategy, seed=1)
    assert answer["output"][0]["content"][0]["text"] == said(same)


async def test_a_stream_that_fails_says_so(service):
    service.hold(after=3)
    async with service.call(RESPONSES, SAID | {"stream": True, "cache": False}) as call:
        await service.held()
        service.runner.failure = RuntimeError("broken")
        service.release()
        await call.task
    service.runner.failure = None
    *_, (name, data) = parse_events(call.text)
    assert name == "response.failed"
    assert data["response"]["status"] == "failed"
    assert data["response"]["error"]["code"] == "step_failed"


ITEM = {"type": "function_call_output", "call_id": "c", "output": "x"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [SET], "include": ["message.output_text.logprobs"]}, "include"),
        ({"include": ["reasoning.encrypted_content"]}, "include.0"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream": True, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"n": 2}, "n"),
        ({"input": [ITEM]}, "input.0.call_id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"max_output_tokens": 100_000}, "max_output_tokens"),
        ({"tool_choice": "auto"}, "tool_choice"),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]},
            "input.0.arguments",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
            "input",
        ),
    ],
)
async def test_what_cannot_be_is_refused_by_field(service, body, param):
    assert await refusal(service, RESPONSES, **({"input": "dive"} | body)) == param
