"""`structured_outputs` over HTTP: followed by every strategy, streamed, cached, refused by name."""

import asyncio
import json
import re

import pytest

from decoding.registry import STRATEGIES

PROMPT = "what is the best way"
PHONE = {"regex": "[0-9]{3}-[0-9]{2}"}
BODY = {"text": PROMPT, "seed": 4, "max_new_tokens": 30, "return_full_text": False}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_strategy_follows_a_regex(service, strategy):
    answer = await service.generate(**BODY, strategy=strategy, structured_outputs=PHONE)
    assert re.fullmatch(PHONE["regex"], answer["generated_text"])
    assert answer["finish_reason"] == "eos"
    assert answer["parameters"]["structured_outputs"] == PHONE


@pytest.mark.parametrize(
    ("structure", "is_followed"),
    [
        ({"json": {"enum": ["a", 7]}}, lambda text: json.loads(text) in ("a", 7)),
        ({"json": '{"const": [true]}'}, lambda text: json.loads(text) == [True]),
        ({"choice": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"grammar": 'start: "x"~2..3'}, lambda text: text in ("xx", "xxx")),
        ({"grammar": 'root ::= "x" "y"?'}, lambda text: text in ("x", "xy")),
    ],
    ids=lambda part: str(part) if isinstance(part, dict) else "so",
)
async def test_each_kind_is_followed(service, structure, is_followed):
    answer = await service.generate(**BODY, strategy="greedy", structured_outputs=structure)
    assert is_followed(answer["generated_text"])
    plain = await service.generate(**BODY, strategy="greedy")
    assert answer["generated_text"] != plain["generated_text"]


async def test_any_object_begins_as_one(service):
    structure = {"json_object": True}
    answer = await service.generate(**BODY, strategy="greedy", structured_outputs=structure)
    assert answer["generated_text"].lstrip()[0] == "{"
    assert answer["parameters"]["structured_outputs"] == structure


async def test_samples_follow_it_each_on_its_own(service):
    answer = await service.generate(**BODY, num_return_sequences=4, structured_outputs=PHONE)
    texts = [sequence["generated_text"] for sequence in answer["sequences"]]
    assert all(re.fullmatch(PHONE["regex"], text) for text in texts)
    assert len(set(texts)) > 1


async def test_the_grammar_is_part_of_the_cache_key(service):
    body = {**BODY, "strategy": "greedy"}
    first = await service.generate(**body, structured_outputs=PHONE)
    again = await service.generate(**body, structured_outputs=PHONE)
    other = await service.generate(**body, structured_outputs={"regex": "[0-9]{3}-[0-9]{3}"})
    assert (first["cached"], again["cached"], other["cached"]) == (False, True, False)
    assert first["generated_text"] == again["generated_text"]
    assert len(other["generated_text"]) == 7


async def test_a_stop_string_ends_the_text_early(service):
    answer = await service.generate(
        **BODY, strategy="greedy", structured_outputs={"regex": "a+-b{3}"}, stop="-"
    )
    assert set(answer["generated_text"]) <= {"a"}


@pytest.mark.parametrize(
    ("structure", "param", "says"),
    [
        ({}, "structured_outputs", "exactly one"),
        ({"regex": "a", "choice": ["a"]}, "structured_outputs", "exactly one"),
        ({"json_object": False}, "structured_outputs", "exactly one"),
        ({"regexp": "a"}, "structured_outputs.regexp", "no such field"),
        ({"choice": []}, "structured_outputs.choice", "at least 1"),
        ({"choice": [""]}, "structured_outputs.choice.0", "at least 1"),
        ({"json": "{"}, "structured_outputs", "no JSON"),
        ({"json": "[]"}, "structured_outputs", "no object"),
        ({"json": {"type": "strin"}}, "structured_outputs.json", "strin"),
        ({"regex": "("}, "structured_outputs.regex", "unclosed group"),
        ({"grammar": "start: missing"}, "structured_outputs.grammar", "missing"),
    ],
    ids=str,
)
async def test_what_cannot_be_followed_is_refused_by_name(service, structure, param, says):
    response = await service.client.post(
        "/generate", json={**BODY, "structured_outputs": structure}
    )
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["param"].startswith(param)
    assert says in error["message"]


def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE = {
    "deep": {"json": nested(100)},
    "deep text": {"json": json.dumps(nested(100))},
    "endless": {"json": {"$ref": "#"}},
    "product": {"json": {"allOf": [{"anyOf": [
        {"pattern": f"a{{{at},{at + more}}}", "type": "string"} for more in range(6)]}
        for at in range(8)]}},
    "long": {"regex": "a" * 200_001},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_grammar_is_refused(service, name):
    body = {**BODY, "structured_outputs": HOSTILE[name]}
    response = await service.client.post("/generate", json=body)
    assert response.status_code in ((413,) if name == "long" else (422,))


async def test_a_grammar_too_complex_in_the_middle_ends_its_own_request_only(
    service, byte_level_tokenizer
):
    letters = [byte_level_tokenizer.encode(each, add_special_tokens=False)[0] for each in "ab"]
    costly = {
        "structured_outputs": {"regex": "(.*a.{0,200}b.*){1,50}"},
        "logit_bias": {str(letter): 100.0 for letter in letters},
        "max_new_tokens": 100,
    }
    plain = {**BODY, "strategy": "greedy", "cache": False}
    before, response, after = await asyncio.gather(
        service.generate(**plain),
        service.client.post("/generate", json={**BODY, **costly}),
        service.generate(**plain),
    )
    assert response.status_code == 422
    assert "too complex to go on; simplify it" in response.json()["error"]["message"]
    assert before["generated_text"] == after["generated_text"]
