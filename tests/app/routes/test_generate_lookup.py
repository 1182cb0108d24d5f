"""Prompt lookup over HTTP: never another answer, refused where it cannot help."""

import pytest

BODY = {
    "text": "what is the best way to learn a language? what is the best way",
    "max_new_tokens": 40,
    "seed": 2,
    "cache": False,
    "logit_bias": {"7": 3.0},
    "details": True,
}
SPEED = {"prompt_lookup_num_tokens": 6, "max_matching_ngram_size": 2}


@pytest.mark.parametrize(
    "way",
    [
        {"strategy": "greedy"},
        {"strategy": "sample", "num_return_sequences": 3},
        {"strategy": "top_p", "stop": "the"},
        {"strategy": "best_of", "best_of": 3},
        {"strategy": "greedy", "structured_outputs": {"regex": "(ab|ba){12}"}},
    ],
    ids=str,
)
async def test_the_answer_is_the_same(service, way):
    plain = await service.generate(**BODY, **way)
    drafted = service.metric("spec_decode_draft_tokens_total")
    fast = await service.generate(**BODY, **way, **SPEED)
    for ours, theirs in zip(fast["details"]["tokens"], plain["details"]["tokens"], strict=True):
        assert [token["id"] for token in ours] == [token["id"] for token in theirs]
        assert [token["logprob"] for token in ours] == pytest.approx(
            [token["logprob"] for token in theirs], abs=1e-4
        )
    assert fast["generated_text"] == plain["generated_text"]
    assert fast["parameters"] == plain["parameters"] | SPEED
    assert service.metric("spec_decode_draft_tokens_total") > drafted


async def test_it_streams_the_same_text(service):
    body = {**BODY, "strategy": "greedy", "return_full_text": False}
    plain = await service.generate(**body)
    events = await service.stream(**body, **SPEED)
    text = "".join(data["text"] for name, data in events if name == "token")
    assert text == plain["generated_text"]


@pytest.mark.parametrize("strategy", ["beam", "beam_sample", "mirostat", "diverse_beam"])
async def test_other_strategies_say_why_not(service, strategy):
    response = await service.client.post("/generate", json={**BODY, **SPEED, "strategy": strategy})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["param"] == "prompt_lookup_num_tokens"
    assert "guesses cannot speed it up; leave this out" in error["message"]
