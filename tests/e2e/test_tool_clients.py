"""Tools and responses with the real packages `openai` and `langchain-openai`, on a real server.

The tiny model's chat template knows no tools, and its weights are random: every call here parses
and satisfies its schema because nothing else can be generated.
"""

import json
from typing import Literal

import openai
import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict

SCHEMA = {
    "type": "object",
    "properties": {"ship": {"enum": ["small", "large"]}, "deep": {"type": "boolean"}},
    "required": ["ship", "deep"],
    "additionalProperties": False,
}
FUNCTION = {"name": "sail", "description": "Sails a ship.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
FLAT = {"type": "function", "strict": True, **FUNCTION}
NAMED = {"type": "function", "function": {"name": "sail"}}
USER = [{"role": "user", "content": "Sail."}]


@pytest.fixture(scope="module")
def url(chat_url):
    return f"{chat_url}/v1"


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


@pytest.fixture
def langchain(url, model):
    return ChatOpenAI(base_url=url, api_key="none", model=model, seed=3, max_tokens=600)


def check(arguments):
    value = json.loads(arguments)
    assert value.keys() == {"ship", "deep"}
    assert value["ship"] in ("small", "large")
    assert type(value["deep"]) is bool


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_chat_calls_and_goes_on_with_the_result(client, model, choice):
    asked = {"model": model, "tools": [TOOL], "seed": 1}
    answer = client.chat.completions.create(
        **asked, messages=USER, tool_choice=choice, max_tokens=900, parallel_tool_calls=False
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert message.content is None
    assert call.function.name == "sail"
    check(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunk"}
    after = client.chat.completions.create(
        **asked, messages=[*USER, message, result], tool_choice="none", max_tokens=5
    )
    assert after.choices[0].message.content
    assert after.choices[0].message.tool_calls is None


def test_a_streamed_call_joins_to_the_whole_one(client, model):
    asked = {"model": model, "messages": USER, "tools": [TOOL], "seed": 1, "max_tokens": 900}
    with client.chat.completions.stream(**asked, tool_choice=NAMED) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds
    assert kinds[-1] == "tool_calls.function.arguments.done"
    whole = client.chat.completions.create(**asked, tool_choice=NAMED).choices[0]
    got, expected = (each.message.tool_calls[0].function for each in (streamed, whole))
    assert (got.name, got.arguments) == (expected.name, expected.arguments)
    assert streamed.finish_reason == whole.finish_reason == "tool_calls"


def test_beams_call_too(client, model):
    answer = client.chat.completions.create(
        model=model,
        messages=USER,
        tools=[TOOL],
        tool_choice=NAMED,
        max_tokens=400,
        n=2,
        extra_body={"strategy": "beam", "num_beams": 3},
    )
    for choice in answer.choices:
        (call,) = choice.message.tool_calls
        check(call.function.arguments)


def test_a_free_answer_may_say_something(client, model):
    answer = client.chat.completions.create(
        model=model, messages=USER, tools=[TOOL], temperature=0, max_tokens=6
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "length"


def test_a_wrong_choice_is_told_by_field(client, model):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=model, messages=USER, tool_choice="required")
    assert refused.value.param == "tool_choice"


def test_a_response_says_something(client, model):
    asked = {"model": model, "input": "Sail.", "temperature": 0, "max_output_tokens": 8}
    answer = client.responses.create(**asked, instructions="Be brief.", metadata={"a": "b"})
    assert answer.output_text
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage.output_tokens == 8
    assert answer.metadata == {"a": "b"}
    events = list(client.responses.create(**asked, instructions="Be brief.", stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == answer.output_text
    assert [event.type for event in events][:4] == [
        *("response.created", "response.in_progress"),
        *("response.output_item.added", "response.content_part.added"),
    ]
    assert events[-1].type == "response.incomplete"


def test_a_response_calls_and_goes_on_with_the_result(client, model):
    asked = {"model": model, "tools": [FLAT], "extra_body": {"seed": 2}}
    turns = [{"role": "user", "content": "Sail."}]
    answer = client.responses.create(
        **asked, input=turns, tool_choice={"type": "function", "name": "sail"}
    )
    (call,) = answer.output
    assert answer.status == "completed"
    assert call.name == "sail"
    check(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunk"}
    after = client.responses.create(
        **asked, input=[*turns, call, result], tool_choice="none", max_output_tokens=5
    )
    assert after.output_text


def test_a_streamed_response_is_the_whole_one(client, model):
    asked = {"model": model, "tools": [FLAT], "input": "Sail.", "extra_body": {"seed": 2}}
    with client.responses.stream(**asked, tool_choice="required") as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert kinds[-1] == "response.completed"
    whole = client.responses.create(**asked, tool_choice="required")
    got, expected = ([each.arguments for each in answer.output] for answer in (streamed, whole))
    assert got == expected
    for arguments in got:
        check(arguments)


class Voyage(BaseModel):
    """A voyage."""

    model_config = ConfigDict(extra="forbid")
    ship: Literal["small", "large"]
    deep: bool


def test_a_response_is_parsed_into_a_model(client, model):
    answer = client.responses.parse(
        model=model, input="Sail.", text_format=Voyage, extra_body={"seed": 4}
    )
    assert isinstance(answer.output_parsed, Voyage)


def test_what_needs_a_store_is_refused(client, model):
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=model, input="Sail.", previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"


def test_langchain_binds_tools(langchain):
    bound = langchain.bind_tools([Voyage], tool_choice="Voyage")
    answer = bound.invoke("Sail.")
    (call,) = answer.tool_calls
    assert call["name"] == "Voyage"
    Voyage.model_validate(call["args"])
    turns = [HumanMessage("Sail."), answer, ToolMessage("sunk", tool_call_id=call["id"])]
    after = langchain.bind(max_tokens=5).invoke(turns)
    assert after.content
    chunks = list(bound.stream("Sail."))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [each["args"] for each in whole.tool_calls] == [call["args"]]


def test_langchain_gets_structured_output_through_a_call(langchain):
    structured = langchain.with_structured_output(Voyage, method="function_calling")
    assert isinstance(structured.invoke("Sail."), Voyage)


def test_langchain_speaks_responses(url, model):
    speaker = ChatOpenAI(
        base_url=url,
        api_key="none",
        model=model,
        use_responses_api=True,
        temperature=0,
        max_tokens=600,
    )
    assert speaker.bind(max_output_tokens=6).invoke("Sail.").text
    (call,) = speaker.bind_tools([Voyage], tool_choice="Voyage").invoke("Sail.").tool_calls
    Voyage.model_validate(call["args"])
