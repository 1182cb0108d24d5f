"""Log-probabilities over HTTP: of likely tokens at each place, and of the prompt's own."""

import pytest

from decoding.registry import STRATEGIES

BODY = {"text": "what is the best way to learn", "seed": 3, "max_new_tokens": 9}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_strategy_shows_what_else_was_likely(service, strategy):
    answer = await service.generate(**BODY, strategy=strategy, top_logprobs=3)
    (tokens,) = answer["details"]["tokens"]
    for token in tokens:
        likely = token["top_logprobs"]
        assert [each["logprob"] for each in likely] == sorted(
            (each["logprob"] for each in likely), reverse=True
        )
        assert len(likely) == 3
        assert likely[0]["logprob"] >= token["logprob"] - 1e-4
        known = {each["id"]: each["logprob"] for each in likely}
        if token["id"] in known:
            assert token["logprob"] == pytest.approx(known[token["id"]], abs=1e-4)
    if strategy == "greedy":
        assert all(token["id"] == token["top_logprobs"][0]["id"] for token in tokens)
        assert all(token["text"] == token["top_logprobs"][0]["text"] for token in tokens)


async def test_a_generated_text_scores_the_same_as_a_prompt(service):
    """What decoding reports of its tokens is what scoring the whole text says of them."""
    answer = await service.generate(**BODY, strategy="greedy", top_logprobs=2)
    (tokens,) = answer["details"]["tokens"]
    text = answer["generated_text"]
    again = await service.generate(
        text=text, strategy="greedy", max_new_tokens=1, prompt_logprobs=2
    )
    scored = again["details"]["prompt_tokens"]
    assert scored[0]["logprob"] is None
    assert "top_logprobs" not in scored[0]
    assert len(scored) == again["input_length"]
    if [token["id"] for token in scored[-len(tokens) :]] == [token["id"] for token in tokens]:
        for ours, theirs in zip(tokens, scored[-len(tokens) :], strict=True):
            assert ours["logprob"] == pytest.approx(theirs["logprob"], abs=1e-4)
            assert [each["id"] for each in ours["top_logprobs"]] == [
                each["id"] for each in theirs["top_logprobs"]
            ]
    else:
        assert scored[-1]["logprob"] < 0, "the tokenizer reads its own text otherwise"


async def test_prompt_scores_without_alternatives(service):
    answer = await service.generate(**BODY, strategy="beam", prompt_logprobs=0)
    scored = answer["details"]["prompt_tokens"]
    assert all("top_logprobs" not in token for token in scored)
    assert all(token["logprob"] < 0 for token in scored[1:])
    assert "".join(token["text"] for token in scored) == BODY["text"]


async def test_the_cache_keeps_them_and_answers_only_who_asks_the_same(service):
    way = {**BODY, "strategy": "greedy"}
    first = await service.generate(**way, top_logprobs=2, prompt_logprobs=1)
    again = await service.generate(**way, top_logprobs=2, prompt_logprobs=1)
    other = await service.generate(**way, top_logprobs=1)
    assert (first["cached"], again["cached"], other["cached"]) == (False, True, False)
    assert first["details"]["tokens"] == again["details"]["tokens"]
    assert first["details"]["prompt_tokens"] == again["details"]["prompt_tokens"]
    assert "prompt_tokens" not in other["details"]


async def test_details_alone_show_no_alternatives(service):
    answer = await service.generate(**BODY, strategy="greedy", details=True)
    assert all("top_logprobs" not in token for token in answer["details"]["tokens"][0])
    assert "prompt_tokens" not in answer["details"]


@pytest.mark.parametrize(
    "wrong", [{"top_logprobs": 21}, {"prompt_logprobs": 21}, {"top_logprobs": -1}], ids=str
)
async def test_too_many_are_refused_by_name(service, wrong):
    response = await service.client.post("/generate", json={**BODY, **wrong})
    assert response.status_code == 422
    assert response.json()["error"]["param"] == next(iter(wrong))
