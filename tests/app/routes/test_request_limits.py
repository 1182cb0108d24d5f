"""What an operator allows a request: each limit refuses by field and number, and no more."""

import pytest

from app.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(
        cache_folder=tmp_path,
        max_prompt_tokens=12,
        max_new_tokens=8,
        max_sequences=2,
        max_texts=3,
        max_stops=1,
    )


WITHIN = [
    {},
    {"max_new_tokens": 8},
    {"text": ["Hi"] * 3},
    {"strategy": "beam", "num_beams": 2},
    {"strategy": "sample", "num_return_sequences": 2},
    {"stop": ["x"]},
    {"max_new_tokens": None, "max_length": 9},
]
BEYOND = [
    ({"max_new_tokens": 9}, "max_new_tokens", "8"),
    ({"max_new_tokens": None, "max_length": 60}, "max_length", "8"),
    ({"text": "many words " * 20}, "text", "12"),
    ({"text": ["Hi"] * 4}, "text", "3"),
    ({"strategy": "beam", "num_beams": 3}, "num_beams", "2"),
    ({"strategy": "sample", "num_return_sequences": 3}, "num_return_sequences", "2"),
    ({"stop": ["x", "y"]}, "stop", "1"),
    ({"guidance_scale": 2.0, "negative_prompt": "many words " * 20}, "negative_prompt", "12"),
]


async def test_requests_within_the_limits_pass(service):
    for body in WITHIN:
        given = {"text": "Hi", "strategy": "greedy", "max_new_tokens": 4} | body
        given = {name: value for name, value in given.items() if value is not None}
        answer = await service.post(**given)
        assert answer.status_code == 200, (body, answer.text)


async def test_requests_beyond_a_limit_are_refused_by_field_and_number(service):
    for body, field, limit in BEYOND:
        given = {"text": "Hi", "strategy": "greedy", "max_new_tokens": 4} | body
        given = {name: value for name, value in given.items() if value is not None}
        answer = await service.post(**given)
        assert answer.status_code == 422, (body, answer.text)
        error = answer.json()["error"]
        assert error["param"] == field
        assert f"allows, which is {limit};" in error["message"]


async def test_scores_are_limited_alike(service):
    answer = await service.post("/score", text="Hi", continuations=["a"] * 4)
    assert answer.json()["error"]["param"] == "continuations"
    answer = await service.post("/score", text="Hi", continuations=["a", "many words " * 20])
    assert answer.json()["error"]["param"] == "continuations.1"


async def test_lists_of_prompts_are_limited_alike(service):
    answer = await service.post("/v1/completions", prompt=["Hi"] * 4, max_tokens=2)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"
