"""Tools with the real default model, through a real client."""

import json
from pathlib import Path

import openai
import platformdirs
import pytest

pytestmark = [pytest.mark.smollm2, pytest.mark.slow, pytest.mark.timeout(600)]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 30},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "description": "Tells the time."}}
USER = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


@pytest.fixture(scope="module")
def client(serve_forever):
    folder = Path(platformdirs.user_cache_dir("beamline"))  # of converted models
    url = serve_forever("serve", "--port", "0", "--device", "cpu", cache_folder=folder)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_default_model_calls_with_what_was_asked_for(client):
    model = client.models.list().data[0].id
    asked = {"model": model, "messages": USER, "temperature": 0, "max_tokens": 100}
    answer = client.chat.completions.create(
        **asked, tools=[WEATHER, TIME], tool_choice="required", parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris", "unit": "celsius"}
    turns = [
        *USER,
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "17 degrees and rain"},
    ]
    after = client.chat.completions.create(
        **(asked | {"messages": turns}), tools=[WEATHER], tool_choice="none"
    )
    assert "17" in after.choices[0].message.content


def test_the_default_model_calls_by_itself_or_says_something(client):
    model = client.models.list().data[0].id
    with client.chat.completions.stream(
        model=model, messages=USER, temperature=0, max_tokens=100, tools=[WEATHER, TIME]
    ) as stream:
        answer = stream.get_final_completion().choices[0]
    for call in answer.message.tool_calls or ():
        assert call.function.name in ("get_weather", "get_time")
        json.loads(call.function.arguments)
    assert bool(answer.message.tool_calls) is (answer.finish_reason == "tool_calls")
    assert answer.message.tool_calls or answer.message.content
