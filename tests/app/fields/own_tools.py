"""The checks of the fields of responses, and of what chats and responses say of tools.

The tiny model's context has no room for what it is told of tools, so that a request with one is
refused for its length: this shows that it is told. What it calls, `tests/app/openai` shows.
"""

from tests.app.fields.own import post, shows
from tests.app.fields.own_openai import _logged as logged
from tests.app.openai.asking import CHAT, refusal

RESPONSES = "/v1/responses"
USER = [{"role": "user", "content": "a"}]
FUNCTION = {"name": "ping", "description": "word " * 100}
ASKED = {
    CHAT: {
        "messages": USER,
        "max_tokens": 2,
        "tools": [{"type": "function", "function": FUNCTION}],
    },
    RESPONSES: {
        "input": "a",
        "max_output_tokens": 2,
        "tools": [{"type": "function", **FUNCTION}],
    },
}
PROMPTS = {CHAT: "messages", RESPONSES: "input"}


async def respond(service, **body):
    return await post(service, RESPONSES, **({"input": "a", "max_output_tokens": 2} | body))


def text_of(answer):
    return answer["output"][0]["content"][0]["text"]


async def _tools(service, path):
    assert await refusal(service, path, **ASKED[path]) == PROMPTS[path], "it is too long"


async def _tool_choice(service, path):
    await post(service, path, **ASKED[path], tool_choice="none")
    without = {name: value for name, value in ASKED[path].items() if name != "tools"}
    assert await refusal(service, path, **without, tool_choice="auto") == "tool_choice"


async def _parallel(service, path):
    without = {name: value for name, value in ASKED[path].items() if name != "tools"}
    param = await refusal(service, path, **without, parallel_tool_calls=False)
    assert param == "parallel_tool_calls"


@shows("ChatBody", "tools")
async def _chat_tools(service):
    await _tools(service, CHAT)


@shows("ChatBody", "tool_choice")
async def _chat_tool_choice(service):
    await _tool_choice(service, CHAT)


@shows("ChatBody", "parallel_tool_calls")
async def _chat_parallel(service):
    await _parallel(service, CHAT)


@shows("ResponseBody", "tools")
async def _response_tools(service):
    await _tools(service, RESPONSES)


@shows("ResponseBody", "tool_choice")
async def _response_tool_choice(service):
    await _tool_choice(service, RESPONSES)


@shows("ResponseBody", "parallel_tool_calls")
async def _response_parallel(service):
    await _parallel(service, RESPONSES)


@shows("ResponseBody", "input")
@shows("ResponseBody", "instructions")
async def _input(service):
    greedy = {"temperature": 0, "max_output_tokens": 6}
    alone = await respond(service, **greedy)
    items = await respond(service, **greedy, input=USER)
    led = await respond(service, **greedy, instructions="the fox")
    system = await respond(
        service, **greedy, input=[{"role": "system", "content": "the fox"}, *USER]
    )
    assert text_of(alone) == text_of(items) != text_of(led) == text_of(system)


@shows("ResponseBody", "max_output_tokens")
async def _max_output_tokens(service):
    answer = await respond(service, max_output_tokens=3, logit_bias={"7": 50})
    assert answer["usage"]["output_tokens"] == 3


@shows("ResponseBody", "text")
async def _text(service):
    asked = {"text": {"format": {"type": "json_object"}}, "max_output_tokens": 1}
    assert text_of(await respond(service, **asked)).lstrip() in ("", "{")


@shows("ResponseBody", "include")
@shows("ResponseBody", "top_logprobs")
async def _include(service):
    asked = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    (part,) = (await respond(service, **asked, logit_bias={"7": 50}))["output"][0]["content"]
    assert [len(each["top_logprobs"]) for each in part["logprobs"]] == [2, 2]
    (part,) = (await respond(service))["output"][0]["content"]
    assert part["logprobs"] == []


@shows("ResponseBody", "metadata")
async def _metadata(service):
    assert (await respond(service, metadata={"a": "b"}))["metadata"] == {"a": "b"}


@shows("ResponseBody", "model")
async def _model(service):
    assert (await respond(service, model="tiny"))["model"] == "tiny"
    response = await service.post(RESPONSES, input="a", model="other")
    assert response.status_code == 404


@shows("ResponseBody", "stream")
@shows("ResponseBody", "stream_options")
async def _stream(service):
    response = await service.post(RESPONSES, input="a", max_output_tokens=2, stream=True)
    assert response.text.startswith("event: response.created\n")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert await refusal(service, RESPONSES, input="a", **options) == "stream_options"


@shows("ResponseBody", "user")
async def _user(service):
    asked = {"input": "a", "max_output_tokens": 1}
    assert "user='somebody'" in await logged(service, RESPONSES, **asked, user="somebody")


@shows("ResponseBody", "service_tier")
async def _service_tier(service):
    assert (await respond(service, service_tier="auto"))["service_tier"] == "default"
    assert "service_tier" not in await respond(service)


@shows("ResponseBody", "store")
@shows("ResponseBody", "background")
@shows("ResponseBody", "truncation")
async def _stateless(service):
    nothing = {"store": False, "background": False, "truncation": "disabled"}
    answer = await respond(service, **nothing)
    assert {name: answer[name] for name in nothing} == nothing
    for name, value in {"store": True, "background": True, "truncation": "auto"}.items():
        assert await refusal(service, RESPONSES, input="a", **{name: value}) == name
