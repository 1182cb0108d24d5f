"""What every strategy is paired with: one check a feature, on a running service.

A check sends requests with the way's own fields and asserts that the feature does what it does, or
raises `Refused` with what the service said. The table in `docs/pairs.md` is made of the same names.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from decoding.adjustments import Watermark
from decoding.base import needs_hidden_states
from decoding.registry import STRATEGIES
from decoding.watermark import green_tokens
from tests.app.driven_service import Service

PROMPT = "what is the best way to learn a language? what is the best way"
BODY = {"text": PROMPT, "seed": 3, "max_new_tokens": 24, "return_full_text": False, "cache": False}
Way = Mapping[str, Any]
Check = Callable[[Service, Way], Awaitable[None]]


class Refused(Exception):
    """The service refused the pair: which field, and the words."""


async def ask(service: Service, way: Way, **more: Any) -> dict[str, Any]:
    """The answer to the way's request with something more."""
    response = await service.post(**{**BODY, **way, "details": True, **more})
    if response.status_code == 422:
        error = response.json()["error"]
        raise Refused(f"{error['param']}: {error['message']}")
    assert response.status_code == 200, response.text
    return response.json()


def ids_of(answer: Mapping[str, Any], index: int = 0) -> list[int]:
    return [token["id"] for token in answer["details"]["tokens"][index]]


async def stop_strings(service: Service, way: Way) -> None:
    bias = {"logit_bias": {"76": 4.0, "77": 4.0}}
    plain = await ask(service, way, **bias)
    text = plain["generated_text"]
    words = "".join(way.get("force_words", []))  # which a stop must not cut
    stop = next(
        each for each in text[2:] if each.isascii() and each.isalpha() and each not in words
    )
    cut = await ask(service, way, **bias, stop=[stop, "\x07"])
    assert stop not in cut["generated_text"]
    assert cut["finish_reason"] in ("stop", "eos", "length")
    assert len(ids_of(cut)) <= 24


async def streaming(service: Service, way: Way) -> None:
    whole = await ask(service, way)
    events = await service.stream(**{**BODY, **way})
    text = "".join(data["text"] for name, data in events if name == "token")
    assert events[-1][0] == "done"
    assert text == events[-1][1]["generated_text"] == whole["generated_text"]


async def log_probabilities(service: Service, way: Way) -> None:
    answer = await ask(service, way, top_logprobs=4)
    for token in answer["details"]["tokens"][0]:
        likely = {each["id"]: each["logprob"] for each in token["top_logprobs"]}
        assert len(likely) == 4
        assert token["logprob"] <= max(likely.values()) + 1e-4
        if token["id"] in likely:
            assert token["logprob"] == pytest.approx(likely[token["id"]], abs=1e-4)


async def prompt_log_probabilities(service: Service, way: Way) -> None:
    plain = await ask(service, way)
    answer = await ask(service, way, prompt_logprobs=1)
    scored = answer["details"]["prompt_tokens"]
    assert "".join(token["text"] for token in scored) == PROMPT
    assert all(token["logprob"] <= token["top_logprobs"][0]["logprob"] for token in scored[1:])
    assert ids_of(answer) == ids_of(plain)


async def json_schema(service: Service, way: Way) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "level": {"enum": [1, 2, 3]}},
        "required": ["ok", "level"],
        "additionalProperties": False,
    }
    bias = {"logit_bias": {"222": -100.0, "223": -100.0, "200": -100.0, "203": -100.0}}
    answer = await ask(service, way, structured_outputs={"json": schema}, max_new_tokens=55, **bias)
    if answer["finish_reason"] == "eos":
        value = json.loads(answer["generated_text"])
        assert type(value["ok"]) is bool
        assert value["level"] in (1, 2, 3)
    else:
        assert answer["generated_text"].lstrip().startswith("{")


async def regex(service: Service, way: Way) -> None:
    answer = await ask(service, way, structured_outputs={"regex": "[ab]{3}-[0-9]{2}"})
    assert re.fullmatch("[ab]{3}-[0-9]{2}", answer["generated_text"])
    assert answer["finish_reason"] == "eos"


async def penalties(service: Service, way: Way) -> None:
    bias = {"logit_bias": {"70": 14.0}}
    plain = ids_of(await ask(service, way, **bias))
    assert plain.count(70) > 3
    for penalty in (
        {"frequency_penalty": 2.0, "presence_penalty": 2.0},
        {"dry_multiplier": 60.0, "dry_allowed_length": 1},
        {"no_repeat_ngram_size": 2},
    ):
        ids = ids_of(await ask(service, way, **bias, **penalty))
        assert num_repeated_pairs(ids) < num_repeated_pairs(plain), penalty
    unbiased = ids_of(await ask(service, way))
    assert ids_of(await ask(service, way, repetition_penalty=50.0)) != unbiased


def num_repeated_pairs(ids: list[int]) -> int:
    pairs = list(pairwise(ids))
    return len(pairs) - len(set(pairs))


async def logit_bias(service: Service, way: Way) -> None:
    answer = await ask(service, way, logit_bias={"71": 100.0})
    assert set(ids_of(answer)) == {71}


async def seed(service: Service, way: Way) -> None:
    alone = await ask(service, way)
    others = [
        service.post(**BODY | {"strategy": name, "seed": at, "text": PROMPT[at:]})
        for at, name in enumerate(["sample", "beam", "greedy"])
    ]
    crowded, *_ = await asyncio.gather(ask(service, way), *others)
    assert ids_of(crowded) == ids_of(alone)
    fields = {name: value for name, value in way.items() if name == "do_sample"}
    if not STRATEGIES[way["strategy"]](**fields).is_deterministic:
        answers = [await ask(service, way, seed=other) for other in range(10, 16)]
        assert len({tuple(ids_of(answer)) for answer in answers}) > 1


async def several_sequences(service: Service, way: Way) -> None:
    answer = await ask(service, way, num_return_sequences=2)
    first, second = ids_of(answer, 0), ids_of(answer, 1)
    assert first != second
    again = await ask(service, way, num_return_sequences=2)
    assert [ids_of(again, 0), ids_of(again, 1)] == [first, second]


async def prefix_cache(service: Service, way: Way) -> None:
    text = f"{way['strategy']} {PROMPT}"  # of its own: nobody has asked it before
    fresh = await ask(service, way, text=text)
    cached = await ask(service, way, text=text)
    reads_all = needs_hidden_states(STRATEGIES[way["strategy"]]())  # of every token of its prompt
    assert (cached["details"]["num_cached_prompt_tokens"] > 0) is not reads_all
    assert ids_of(cached) == ids_of(fresh)


async def prompt_lookup(service: Service, way: Way) -> None:
    plain = await ask(service, way, logit_bias={"70": 4.0})
    fast = await ask(service, way, logit_bias={"70": 4.0}, prompt_lookup_num_tokens=4)
    assert ids_of(fast) == ids_of(plain)


async def draft_model(service: Service, way: Way) -> None:
    plain = await ask(service, way)
    drafted = service.metric("spec_decode_draft_tokens_total")
    fast = await ask(service, way, num_speculative_tokens=4)
    assert service.metric("spec_decode_draft_tokens_total") > drafted
    assert ids_of(fast) == ids_of(plain)


async def guidance(service: Service, way: Way) -> None:
    plain = await ask(service, way)
    guided = await ask(service, way, guidance_scale=4.0, negative_prompt="the quick brown fox")
    assert ids_of(guided) != ids_of(plain)
    again = await ask(service, way, guidance_scale=4.0, negative_prompt="the quick brown fox")
    assert ids_of(again) == ids_of(guided)


async def watermark(service: Service, way: Way) -> None:
    mark = {"bias": 30.0, "hashing_key": 7}
    marked = ids_of(await ask(service, way, watermark=mark))
    size = service.generator.judge.preparer.fit.limits.vocab_size
    is_green = [green_tokens(Watermark(**mark), a, size)[b] for a, b in pairwise(marked)]
    assert sum(is_green) > 0.6 * len(is_green)


async def trace(service: Service, way: Way) -> None:
    plain = ids_of(await ask(service, way))
    answer = await ask(service, way, details={"trace": True, "trace_candidates": 2})
    tree = answer["details"]["trace"]
    nodes = {node["id"]: node for step in tree["steps"] for node in step["nodes"]}
    (at,), path = tree["sequences"], []
    while nodes[at]["parent"] is not None:
        path.append(nodes[at]["token"])
        at = nodes[at]["parent"]
    assert path[::-1] == ids_of(answer) == plain
    assert not tree["truncated"]


FEATURES: Mapping[str, Check] = {
    "stop strings": stop_strings,
    "streaming": streaming,
    "log-probabilities": log_probabilities,
    "prompt log-probabilities": prompt_log_probabilities,
    "JSON schema": json_schema,
    "regex": regex,
    "penalties": penalties,
    "logit bias": logit_bias,
    "seed": seed,
    "n > 1": several_sequences,
    "prefix cache": prefix_cache,
    "prompt lookup": prompt_lookup,
    "draft model": draft_model,
    "guidance": guidance,
    "watermark": watermark,
    "trace": trace,
}
