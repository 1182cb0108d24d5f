"""The checks of the fields that only OpenAI's bodies have. Both bodies where they share a field."""

import logging

from tests.app.fields.own import post, shows
from tests.app.openai.asking import chat, complete, refusal, stream_of

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "what is the best way"}]
PATHS = {
    "ChatBody": (CHAT, {"messages": USER, "max_tokens": 3, "seed": 1}),
    "CompletionBody": (COMPLETIONS, {"prompt": "the quick", "max_tokens": 3, "seed": 1}),
}


def shows_in_both(field):
    """File a check that is called with the path and the body of each."""

    def file(check):
        for body, (path, asked) in PATHS.items():

            async def of_one(service, path=path, asked=asked):
                await check(service, path, asked)

            shows(body, field)(of_one)
        return check

    return file


@shows_in_both("model")
async def _model(service, path, asked):
    assert (await post(service, path, **asked, model="tiny"))["model"] == "tiny"
    assert (await service.post(path, **asked, model="other")).status_code == 404


@shows_in_both("stream")
async def _stream(service, path, asked):
    assert len(await stream_of(service, path, **asked)) > 1


@shows_in_both("stream_options")
async def _stream_options(service, path, asked):
    options = {"stream_options": {"include_usage": True}}
    chunks = await stream_of(service, path, **asked, **options)
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert await refusal(service, path, **asked, **options) == "stream_options"


@shows_in_both("user")
async def _user(service, path, asked):
    assert "user='somebody'" in await _logged(service, path, **asked, user="somebody")


@shows_in_both("service_tier")
async def _service_tier(service, path, asked):
    assert "service_tier" not in await post(service, path, **asked)
    assert (await post(service, path, **asked, service_tier="auto"))["service_tier"] == "default"
    assert await refusal(service, path, **asked, service_tier="flex") == "service_tier"


@shows("ChatBody", "messages")
async def _messages(service):
    greedy = {"temperature": 0, "max_tokens": 4}
    parts = [{"type": "text", "text": "what is "}, {"type": "text", "text": "the best way"}]
    answers = [
        await chat(service, **greedy, messages=[{"role": role, "content": content}])
        for role, content in [
            ("user", USER[0]["content"]),
            ("user", parts),
            ("system", "hi"),
            ("developer", "hi"),
        ]
    ]
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert texts[0] == texts[1] != texts[2] == texts[3]


@shows("ChatBody", "max_tokens")
@shows("ChatBody", "max_completion_tokens")
async def _max_completion_tokens(service):
    for name in ("max_tokens", "max_completion_tokens"):
        answer = await chat(service, messages=USER, **{name: 2}, logit_bias={"7": 50})
        assert answer["usage"]["completion_tokens"] == 2
    free = await chat(service, messages=USER, logit_bias={"7": 50})
    assert free["usage"]["total_tokens"] > 100, "all the room there is"


@shows("ChatBody", "logprobs")
@shows("ChatBody", "top_logprobs")
async def _chat_logprobs(service):
    asked = {"messages": USER, "max_tokens": 1}
    assert (await chat(service, **asked))["choices"][0]["logprobs"] is None
    answer = await chat(service, **asked, logprobs=True, top_logprobs=2)
    assert len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert await refusal(service, **asked, top_logprobs=2) == "top_logprobs"


@shows("ChatBody", "response_format")
async def _response_format(service):
    schema = {"enum": ["dog"]}
    named = {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}}
    answer = await chat(service, messages=USER, response_format=named, max_tokens=20)
    assert answer["choices"][0]["message"]["content"].strip() == '"dog"'
    some = await chat(service, messages=USER, response_format={"type": "json_object"}, max_tokens=9)
    assert some["choices"][0]["message"]["content"].lstrip().startswith("{")
    bad = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}
    assert await refusal(service, messages=USER, response_format=bad) == "response_format"


@shows("ChatBody", "metadata")
async def _metadata(service):
    asked = {"messages": USER, "max_tokens": 1, "metadata": {"job": "seven"}}
    assert (await chat(service, **asked))["metadata"] == {"job": "seven"}
    assert "'job': 'seven'" in await _logged(service, CHAT, **asked)


@shows("ChatBody", "store")
async def _store(service):
    await chat(service, messages=USER, max_tokens=1, store=False)
    assert await refusal(service, messages=USER, store=True) == "store"


@shows("CompletionBody", "prompt")
async def _prompt(service):
    greedy = {"temperature": 0, "max_tokens": 4}
    ids = service.tokenizer.encode("the quick", add_special_tokens=False)
    forms = ["the quick", ["the quick"], ids, [ids]]
    answers = [await complete(service, **greedy, prompt=form) for form in forms]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1
    assert {answer["usage"]["prompt_tokens"] for answer in answers} == {len(ids)}


@shows("CompletionBody", "max_tokens")
async def _max_tokens(service):
    bias = {"logit_bias": {"7": 50}}
    assert (await complete(service, prompt="a", **bias))["usage"]["completion_tokens"] == 16
    assert (await complete(service, prompt="a", max_tokens=2, **bias))["usage"][
        "completion_tokens"
    ] == 2
    assert await refusal(service, COMPLETIONS, prompt="a", max_tokens=0) == "max_tokens"


@shows("CompletionBody", "echo")
async def _echo(service):
    asked = {"prompt": "the quick", "max_tokens": 3, "temperature": 0}
    plain = (await complete(service, **asked))["choices"][0]["text"]
    assert (await complete(service, **asked, echo=True))["choices"][0][
        "text"
    ] == "the quick" + plain
    chunks = await stream_of(service, COMPLETIONS, **asked, echo=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "the quick" + plain


@shows("CompletionBody", "logprobs")
async def _completion_logprobs(service):
    asked = {"prompt": "the quick", "max_tokens": 3, "temperature": 0}
    assert (await complete(service, **asked))["choices"][0]["logprobs"] is None
    told = (await complete(service, **asked, logprobs=2))["choices"][0]["logprobs"]
    assert [len(likely) for likely in told["top_logprobs"]] == [2, 2, 2]
    assert told["token_logprobs"] == [max(likely.values()) for likely in told["top_logprobs"]]


async def _logged(service, path, **asked):
    """What a request writes to the log of OpenAI's routes."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("app.openai.routes")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        await post(service, path, **asked)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return "\n".join(lines)
