"""The checks of fields that are no change of the text alone: one function a field of a body.

`@shows(model, field)` files a check of a field that one body has; `@shows_everywhere(field)` of one
that all bodies have which ask for text. Whoever adds a field adds its check.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.app.fields.apis import PROMPT, Api

Check = Callable[..., Awaitable[None]]
OWN: dict[tuple[str, str], Check] = {}  # by body and field; called with the service
EVERYWHERE: dict[str, Check] = {}  # by field; called with the service and an Api


def shows(body: str, field: str) -> Callable[[Check], Check]:
    """File a check of a field of one body."""

    def file(check: Check) -> Check:
        OWN[body, field] = check
        return check

    return file


def shows_everywhere(field: str) -> Callable[[Check], Check]:
    """File a check of a field of all bodies that ask for text."""

    def file(check: Check) -> Check:
        EVERYWHERE[field] = check
        return check

    return file


async def post(service, path: str, **body: Any):
    response = await service.post(path, **body)
    assert response.status_code == 200, response.text
    return response.json()


@shows_everywhere("strategy")
async def _strategy(service, api: Api):
    (greedy,) = await api.ask(service, strategy="greedy")
    (beam,) = await api.ask(service, strategy="beam")
    assert (greedy[1], beam[1] is None) == (None, False), "only beams have a score"


@shows_everywhere("stop")
async def _stop(service, api: Api):
    ((text, _),) = await api.ask(service, strategy="greedy")
    stop = next(each for each in text[3:] if each.isascii() and each.isprintable())
    ((cut, _),) = await api.ask(service, strategy="greedy", stop=[stop])
    assert cut == text[: text.index(stop)]


@shows_everywhere("include_stop_str_in_output")
async def _include_stop(service, api: Api):
    ((text, _),) = await api.ask(service, strategy="greedy")
    stop = next(each for each in text[3:] if each.isascii() and each.isprintable())
    fields = {"strategy": "greedy", "stop": [stop], "include_stop_str_in_output": True}
    ((kept, _),) = await api.ask(service, **fields)
    assert kept == text[: text.index(stop) + 1]


@shows_everywhere("truncate_prompt_tokens")
async def _truncate(service, api: Api):
    whole = await api.ask(service, strategy="greedy")
    assert await api.ask(service, strategy="greedy", truncate_prompt_tokens=100) == whole
    assert await api.ask(service, strategy="greedy", truncate_prompt_tokens=2) != whole


@shows_everywhere("bad_words")
async def _bad_words(service, api: Api):
    (dog,) = service.tokenizer.encode(" dog", add_special_tokens=False)
    fields = {"strategy": "greedy", "logit_bias": {str(dog): 30.0}}
    ((likely, _),) = await api.ask(service, **fields)
    ((without, _),) = await api.ask(service, **fields, bad_words=["dog"])
    assert likely.count("dog") > 3
    assert "dog" not in without


@shows_everywhere("cache")
async def _cache(service, api: Api):
    fields = {"strategy": "greedy", "max_new_tokens": 2}
    outcomes = [
        (await api.send(service, **fields, cache=cache)).headers["X-Cache"]
        for cache in (True, True, False)
    ]
    assert outcomes[1:] == ["HIT", "BYPASS"]


@shows_everywhere("deterministic")
async def _deterministic(service, api: Api):
    response = await api.send(service, deterministic=True)  # which this runtime cannot promise
    assert response.status_code == api.refusal
    assert response.json()["error"]["param"] == "deterministic"


async def _num_drafted(service, api: Api, **fields):
    before = service.metric("spec_decode_draft_tokens_total")
    answer = await api.ask(service, strategy="greedy", logit_bias={"7": 3.0}, **fields)
    return service.metric("spec_decode_draft_tokens_total") - before, answer


@shows_everywhere("prompt_lookup_num_tokens")
async def _prompt_lookup(service, api: Api):
    none, plain = await _num_drafted(service, api)
    some, guessed = await _num_drafted(service, api, prompt_lookup_num_tokens=4)
    assert none == 0 < some
    assert guessed[0][0] == plain[0][0]


@shows_everywhere("num_speculative_tokens")
async def _speculative(service, api: Api):
    none, plain = await _num_drafted(service, api, num_speculative_tokens=0)
    some, guessed = await _num_drafted(service, api, num_speculative_tokens=4)
    assert none == 0 < some
    assert guessed[0][0] == plain[0][0]


@shows_everywhere("max_matching_ngram_size")
async def _ngram_size(service, api: Api):
    found = {
        size: (
            await _num_drafted(
                service, api, prompt_lookup_num_tokens=4, max_matching_ngram_size=size
            )
        )[0]
        for size in (1, 8)
    }
    assert all(found.values()), "both find something to guess"


@shows("GenerateBody", "text")
async def _text(service):
    one = await post(service, "/generate", text="a", strategy="greedy", max_new_tokens=2)
    two = await post(service, "/generate", text=["a", "b"], strategy="greedy", max_new_tokens=2)
    assert one["generated_text"] == two["results"][0]["generated_text"]
    assert two["results"][1]["generated_text"].startswith("b")


@shows("GenerateBody", "messages")
async def _messages(service):
    turns = [{"role": "user", "content": "hi"}]
    chat = await post(service, "/generate", messages=turns, return_full_text=True)
    assert chat["generated_text"].startswith("<|user|>hi\n<|assistant|>")


@shows("GenerateBody", "max_new_tokens")
async def _max_new_tokens(service):
    answer = await post(service, "/generate", text="a", max_new_tokens=3)
    assert answer["output_length"] == answer["input_length"] + 3


@shows("GenerateBody", "max_length")
async def _max_length(service):
    assert (await post(service, "/generate", text="a", max_length=7))["output_length"] == 7


@shows("GenerateBody", "return_full_text")
async def _return_full_text(service):
    asked = {"text": "the quick", "strategy": "greedy", "max_new_tokens": 3}
    full = await post(service, "/generate", **asked, return_full_text=True)
    new = await post(service, "/generate", **asked, return_full_text=False)
    assert full["generated_text"] == "the quick" + new["generated_text"]


@shows("GenerateBody", "details")
async def _details(service):
    asked = {"text": "a", "strategy": "greedy", "max_new_tokens": 2}
    assert "details" not in await post(service, "/generate", **asked)
    traced = await post(service, "/generate", **asked, details={"trace": True})
    assert len(traced["details"]["trace"]["steps"]) >= 2


@shows("GenerateBody", "top_logprobs")
async def _top_logprobs(service):
    answer = await post(service, "/generate", text="a", max_new_tokens=1, top_logprobs=3)
    assert len(answer["details"]["tokens"][0][0]["top_logprobs"]) == 3


@shows("GenerateBody", "prompt_logprobs")
async def _prompt_logprobs(service):
    answer = await post(service, "/generate", text="the quick", max_new_tokens=1, prompt_logprobs=2)
    first, second = answer["details"]["prompt_tokens"][:2]
    assert first["logprob"] is None
    assert len(second["top_logprobs"]) == 2


@shows("ScoreRequest", "text")
@shows("ScoreRequest", "continuations")
async def _score(service):
    asked = {"continuations": [" dog", " fox"]}
    one = await post(service, "/score", text="the quick brown", **asked)
    other = await post(service, "/score", text="a", **asked)
    logprobs = [each["logprob"] for each in one["results"]]
    assert len(set(logprobs)) == 2
    assert logprobs != [each["logprob"] for each in other["results"]]


@shows("DetectRequest", "text")
@shows("DetectRequest", "watermark")
async def _detect(service):
    text = {"text": PROMPT}
    one = await post(service, "/watermark/detect", **text)
    other = await post(service, "/watermark/detect", **text, watermark={"hashing_key": 7})
    assert one["num_green_tokens"] != other["num_green_tokens"]
    short = await post(service, "/watermark/detect", text="the quick brown")
    assert short["num_tokens_scored"] < one["num_tokens_scored"]


@shows("LogLevelBody", "log_level")
async def _log_level(service):
    response = await service.client.put("/admin/log_level", json={"log_level": "debug"})
    assert response.json()["error"]["code"] == "admin_closed"  # without keys
    shown = Path(__file__).parents[1] / "routes" / "test_admin.py"
    assert '"/admin/log_level", log_level="debug"' in shown.read_text()
