"""`POST /v1/completions` and `/v1/models` on a real engine: lists, echo, scores, refusals."""

import pytest

from app.openai.fields import REFUSED
from tests.app.openai.asking import COMPLETIONS, complete, refusal, stream_of

GREEDY = {"temperature": 0, "max_tokens": 5}


async def test_choices_of_a_list_come_prompt_by_prompt(service):
    asked = {"n": 2, "seed": 5, "max_tokens": 5}
    both = await complete(service, prompt=["the quick", "numbers"], **asked)
    alone = [await complete(service, prompt=each, **asked) for each in ("the quick", "numbers")]
    expected = [choice["text"] for each in alone for choice in each["choices"]]
    assert [choice["text"] for choice in both["choices"]] == expected
    assert [choice["index"] for choice in both["choices"]] == [0, 1, 2, 3]
    chunks = await stream_of(service, COMPLETIONS, prompt=["the quick", "numbers"], **asked)
    texts = dict.fromkeys(range(4), "")
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["text"]
    assert list(texts.values()) == expected
    assert both["usage"]["completion_tokens"] == 20


async def test_a_prompt_that_is_refused_refuses_the_list_and_frees_the_others(service):
    assert await refusal(service, COMPLETIONS, prompt=["a", "b " * 200], max_tokens=5) == "prompt.1"
    await service.until(service.is_idle)


async def test_scores_of_a_prompt_are_those_of_score(service):
    ours = await service.client.post(
        "/score", json={"text": "the quick", "continuations": [" brown fox"]}
    )
    expected = [token["logprob"] for token in ours.json()["results"][0]["tokens"]]
    answer = await complete(
        service, prompt="the quick brown fox", max_tokens=0, echo=True, logprobs=0
    )
    (choice,) = answer["choices"]
    told = choice["logprobs"]
    assert told["token_logprobs"][-len(expected) :] == pytest.approx(expected, abs=1e-4)
    assert "".join(told["tokens"]) == choice["text"] == "the quick brown fox"
    assert answer["usage"]["completion_tokens"] == 0
    assert choice["finish_reason"] == "length"


async def test_half_characters_are_named_by_their_bytes(service):
    ids = [service.generator.presenter.codec.encode_piece("\U0001f9ed")]
    answer = await complete(service, prompt=ids, max_tokens=0, echo=True, logprobs=0)
    told = answer["choices"][0]["logprobs"]
    assert told["tokens"][0].startswith("bytes:\\x")
    assert told["text_offset"] == [0] * len(told["tokens"])
    assert answer["choices"][0]["text"] == "\U0001f9ed"


async def test_null_is_a_field_that_is_left_out(service):
    plain = await complete(service, prompt="the quick", **GREEDY)
    nulls = dict.fromkeys(["n", "stop", "seed", "logit_bias", "best_of", "strategy", "user"])
    answer = await complete(service, prompt="the quick", **GREEDY, **nulls)
    assert answer["choices"] == plain["choices"]


async def test_n_is_the_number_of_sequences_under_both_names(service):
    for name in ("n", "num_return_sequences"):
        answer = await complete(service, prompt="a", strategy="beam", max_tokens=3, **{name: 3})
        assert len(answer["choices"]) == 3
        scores = [choice["score"] for choice in answer["choices"]]
        assert scores == sorted(scores, reverse=True)
    twice = {"n": 2, "num_return_sequences": 2}
    assert await refusal(service, COMPLETIONS, prompt="a", **twice) == "num_return_sequences"


@pytest.mark.parametrize("field", [*sorted(REFUSED.keys() - {"prompt"}), "nonsense", "num_beams"])
async def test_what_cannot_be_served_is_refused_by_name(service, field):
    assert await refusal(service, COMPLETIONS, prompt="a", **{field: 1}) == field


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": [[1], []]}, "prompt.1"),
        ({"prompt": [99999]}, "prompt"),
        ({"max_tokens": 1000}, "max_tokens"),
        ({"min_new_tokens": 9, "max_tokens": 2}, "min_new_tokens"),
        ({"n": 0}, "n"),
        ({"n": 200}, "n"),
        ({"echo": True, "logprobs": 1, "stream": True}, "stream"),
        ({"strategy": "beam", "n": 9}, "n"),
    ],
)
async def test_a_mistake_names_the_field_as_the_body_calls_it(service, asked, param):
    assert await refusal(service, COMPLETIONS, **{"prompt": "a"} | asked) == param


async def test_the_model_is_listed_and_found_by_name(service):
    (card,) = (await service.client.get("/v1/models")).json()["data"]
    assert card["id"] == "tiny"
    assert card["max_model_len"] == 128
    assert (await service.client.get("/v1/models/tiny")).json() == card
    missing = await service.client.get("/v1/models/a/b")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


async def test_our_own_routes_keep_their_status_codes(service):
    assert (await service.post("/v1/systemone", state="a")).status_code == 422
    assert (await service.post("/generate", text="a", temperature=-1)).status_code == 422
    assert (await service.post("/v1/nothing")).status_code == 404
