"""Whole answers in TGI's shape on a real engine: each parameter shows its effect."""

import json
import math
import re

import pytest

from tests.app.driven_service import stop_within

PROMPT = "what is the best way"


async def ask(service, path="/generate", *, inputs=PROMPT, **parameters):
    response = await service.post(path, inputs=inputs, parameters=parameters)
    assert response.status_code == 200, response.text
    return response.json()


async def details_of(service, **parameters):
    answer = await ask(service, details=True, **parameters)
    return answer["generated_text"], answer["details"]


def ids_of(details):
    return [token["id"] for token in details["tokens"]]


async def test_greedy_is_the_same_as_our_own(service):
    ours = await service.generate(
        text=PROMPT, strategy="greedy", max_new_tokens=8, return_full_text=False, details=True
    )
    text, details = await details_of(service, max_new_tokens=8)
    assert text == ours["generated_text"]
    assert ids_of(details) == [token["id"] for token in ours["details"]["tokens"][0]]
    for theirs, own in zip(details["tokens"], ours["details"]["tokens"][0], strict=True):
        assert theirs["logprob"] == pytest.approx(own["logprob"])
        assert theirs["special"] is False
    assert "".join(token["text"] for token in details["tokens"]) == text
    assert details["generated_tokens"] == 8
    assert details["finish_reason"] == "length"
    assert details["seed"] is None
    assert details["prefill"] == []
    assert not {"top_tokens", "best_of_sequences"} & set(details)


async def test_without_details_there_is_only_the_text(service):
    assert list(await ask(service, max_new_tokens=3)) == ["generated_text"]


@pytest.mark.parametrize(("path", "by_default"), [("/", True), ("/generate", False)])
async def test_the_full_text_is_told_by_default_on_the_compatible_path(service, path, by_default):
    async def text(**parameters):
        answer = await ask(service, path, max_new_tokens=4, **parameters)
        return (answer[0] if path == "/" else answer)["generated_text"]

    new, full = await text(return_full_text=False), await text(return_full_text=True)
    assert full == PROMPT + new
    assert await text() == (full if by_default else new)


async def test_no_parameters_at_all_draw_the_text(service):
    response = await service.post("/generate", inputs=PROMPT)
    assert response.status_code == 200
    drawn = {
        (await service.post("/generate", inputs=PROMPT)).json()["generated_text"] for _ in range(3)
    }
    assert len(drawn) == 3
    greedy = await ask(service)
    assert (await ask(service))["generated_text"] == greedy["generated_text"]


async def test_the_text_goes_on_as_long_as_there_is_room(service):
    _, details = await details_of(service, logit_bias={"1": -100.0})
    num_prompt = (await service.post("/tokenize", text=PROMPT)).json()["count"]
    assert details["generated_tokens"] == 128 - num_prompt


async def test_a_seed_repeats_a_draw_and_is_told(service):
    first = await details_of(service, do_sample=True, max_new_tokens=8, seed=5, cache=False)
    again = await details_of(service, do_sample=True, max_new_tokens=8, seed=5, cache=False)
    other = await details_of(service, do_sample=True, max_new_tokens=8, seed=6)
    assert first == again
    assert first[1]["seed"] == 5
    assert ids_of(other[1]) != ids_of(first[1])
    _, drawn = await details_of(service, do_sample=True, max_new_tokens=8)
    _, repeated = await details_of(service, do_sample=True, max_new_tokens=8, seed=drawn["seed"])
    assert ids_of(repeated) == ids_of(drawn)


@pytest.mark.parametrize(
    "parameters", [{"top_k": 1}, {"top_p": 0.001}, {"temperature": 0.01}], ids=str
)
async def test_a_narrow_filter_draws_what_greedy_takes(service, parameters):
    greedy = await ask(service, max_new_tokens=6)
    assert await ask(service, max_new_tokens=6, seed=1, **parameters) == greedy


async def test_typical_decoding_is_ours(service):
    text, _ = await details_of(service, typical_p=0.2, max_new_tokens=8, seed=2)
    ours = await service.generate(
        text=PROMPT,
        strategy="typical",
        typical_p=0.2,
        max_new_tokens=8,
        seed=2,
        return_full_text=False,
    )
    assert text == ours["generated_text"]


@pytest.mark.parametrize("penalty", [{"repetition_penalty": 5.0}, {"frequency_penalty": 2.0}])
async def test_penalties_change_the_text(service, penalty):
    bias = {"logit_bias": {"70": 14.0}, "max_new_tokens": 12}
    _, plain = await details_of(service, **bias)
    _, penalised = await details_of(service, **bias, **penalty)
    assert ids_of(penalised).count(70) < ids_of(plain).count(70)


async def test_a_stop_string_ends_the_text_and_stays_in_it(service):
    whole, _ = await details_of(service, max_new_tokens=30)
    stop = stop_within(whole)
    text, details = await details_of(service, max_new_tokens=30, stop=[stop, "\x07"])
    assert text == whole.split(stop)[0] + stop
    assert details["finish_reason"] == "stop_sequence"
    assert "".join(token["text"] for token in details["tokens"]) == text


async def test_the_end_token_is_told_as_special(service, byte_level_tokenizer):
    end = byte_level_tokenizer.eos_token_id
    shown = {"logit_bias": {"70": 20.0}}  # never half a character
    text, details = await details_of(service, forced_eos_token_id=end, max_new_tokens=4, **shown)
    assert details["finish_reason"] == "eos_token"
    assert details["generated_tokens"] == 4
    *before, last = details["tokens"]
    assert (last["id"], last["special"], last["text"]) == (end, True, "</s>")
    assert "".join(token["text"] for token in before) == text


async def test_the_prompt_is_told_with_its_probabilities(service):
    answer = await ask(service, decoder_input_details=True, max_new_tokens=1)
    prefill = answer["details"]["prefill"]
    ours = await service.generate(text=PROMPT, prompt_logprobs=0, max_new_tokens=1)
    assert "".join(token["text"] for token in prefill) == PROMPT
    for theirs, own in zip(prefill, ours["details"]["prompt_tokens"], strict=True):
        assert theirs == {"id": own["id"], "text": own["text"], "logprob": theirs["logprob"]}
        assert theirs["logprob"] == pytest.approx(own["logprob"], abs=1e-5)
    assert prefill[0]["logprob"] is None


async def test_likely_tokens_are_told_at_each_place(service):
    _, details = await details_of(service, top_n_tokens=3, max_new_tokens=5)
    assert len(details["top_tokens"]) == 5
    for likely, token in zip(details["top_tokens"], details["tokens"], strict=True):
        assert len(likely) == 3
        assert likely[0]["id"] == token["id"]
        assert likely[0]["logprob"] == pytest.approx(token["logprob"], abs=1e-5)
        assert [each["logprob"] for each in likely] == sorted(
            (each["logprob"] for each in likely), reverse=True
        )


async def test_the_best_of_several_comes_first_and_the_others_are_told(service):
    drawn = {"best_of": 3, "do_sample": True, "max_new_tokens": 6, "seed": 3}
    text, details = await details_of(service, **drawn)
    others = details["best_of_sequences"]
    assert len(others) == 2
    means = [
        math.fsum(token["logprob"] for token in each["tokens"]) / each["generated_tokens"]
        for each in (details, *others)
    ]
    assert means == sorted(means, reverse=True)
    assert len({text, *(each["generated_text"] for each in others)}) == 3
    assert (await ask(service, **drawn))["generated_text"] == text


async def test_beams_are_told_best_first(service):
    beams = {"strategy": "beam", "num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6}
    text, details = await details_of(service, **beams)
    ours = await service.generate(text=PROMPT, return_full_text=False, **beams)
    told = [text, *(each["generated_text"] for each in details["best_of_sequences"])]
    assert told == [each["generated_text"] for each in ours["sequences"]]


SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": [1, 2]}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "json", "value": SCHEMA},
        {"type": "json", "value": json.dumps(SCHEMA)},
        {"type": "json_object", "value": SCHEMA},
        {"type": "json_schema", "value": {"name": "a", "strict": True, "schema": SCHEMA}},
    ],
    ids=str,
)
async def test_a_schema_is_kept_to(service, grammar):
    few_spaces = {"logit_bias": {"222": -100.0, "200": -100.0, "203": -100.0}}
    text, details = await details_of(service, grammar=grammar, **few_spaces)
    assert json.loads(text) in ({"a": 1}, {"a": 2})
    assert details["finish_reason"] == "eos_token"


async def test_a_regex_is_matched(service):
    grammar = {"type": "regex", "value": "[0-9]{3}-[0-9]{2}"}
    answer = await ask(service, grammar=grammar, do_sample=True, seed=1)
    assert re.fullmatch(grammar["value"], answer["generated_text"])


async def test_a_long_prompt_is_cut_at_its_beginning(service):
    answer = await ask(
        service, inputs="the fox " * 300, truncate=5, decoder_input_details=True, max_new_tokens=2
    )
    assert len(answer["details"]["prefill"]) == 5


async def test_a_watermark_is_found_again(service):
    body = {"do_sample": True, "seed": 1, "max_new_tokens": 60}
    marked = await ask(service, watermark=True, **body)
    plain = await ask(service, watermark=False, **body)
    assert marked != plain
    found = {}
    for name, answer in (("marked", marked), ("plain", plain)):
        response = await service.post(
            "/watermark/detect",
            text=answer["generated_text"],
            watermark={"greenlist_ratio": 0.5},
        )
        found[name] = response.json()["z_score"]
    assert found["marked"] > found["plain"]


async def test_the_headers_tell_lengths_and_times(service):
    response = await service.post("/generate", inputs=PROMPT, parameters={"max_new_tokens": 5})
    headers = response.headers
    tokens = (await service.post("/tokenize", text=PROMPT)).json()["count"]
    assert headers["x-prompt-tokens"] == str(tokens)
    assert headers["x-generated-tokens"] == "5"
    assert headers["x-compute-characters"] == str(len(PROMPT))
    assert float(headers["x-compute-time"]) > 0
    for name in ("x-total-time", "x-queue-time", "x-inference-time", "x-time-per-token"):
        assert int(headers[name]) >= 0
    again = await service.post("/generate", inputs=PROMPT, parameters={"max_new_tokens": 5})
    assert (headers["x-cache"], again.headers["x-cache"]) == ("MISS", "HIT")
    assert again.json() == response.json()


async def test_both_apis_share_the_cache(service):
    await service.generate(text=PROMPT, strategy="greedy", max_new_tokens=5)
    response = await service.post("/generate", inputs=PROMPT, parameters={"max_new_tokens": 5})
    assert response.headers["x-cache"] == "HIT"
