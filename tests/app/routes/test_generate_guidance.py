"""Classifier-free guidance over HTTP: for every strategy, and refused where it makes no sense."""

import pytest

from decoding.registry import STRATEGIES

BODY = {"text": "what is the best way to learn", "seed": 3, "max_new_tokens": 10}
GUIDED = {"guidance_scale": 3.0, "negative_prompt": "the quick brown fox"}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_guidance_changes_what_every_strategy_says(service, strategy):
    way = {**BODY, "strategy": strategy}
    plain = await service.generate(**way)
    answer = await service.generate(**way, **GUIDED)
    assert answer["generated_text"] != plain["generated_text"]
    assert answer["parameters"] == plain["parameters"] | GUIDED
    other = await service.generate(**way, **GUIDED | {"negative_prompt": "every day, write"})
    assert other["cached"] is False


async def test_without_a_negative_prompt_the_last_token_stands_alone(service):
    way = {**BODY, "strategy": "greedy", "guidance_scale": 2.0}
    answer = await service.generate(**way)
    assert answer["parameters"]["negative_prompt"] is None
    other = await service.generate(**way | GUIDED | {"guidance_scale": 2.0})
    assert answer["generated_text"] != other["generated_text"]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"negative_prompt": "x"}, "negative_prompt"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({**GUIDED, "prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({**GUIDED, "negative_prompt": "word " * 200}, "negative_prompt"),
        ({**GUIDED, "num_return_sequences": 5}, "num_return_sequences"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused_by_name(service, wrong, param):
    response = await service.post(**{**BODY, **wrong})
    assert response.status_code == 422, response.text
    assert response.json()["error"]["param"] == param
