"""The strategies of the beam family over HTTP."""

import pytest

BODY = {"text": "what is the best way", "max_new_tokens": 14, "return_full_text": False}


async def test_diverse_beams_differ_more_than_plain_ones(service):
    many = {**BODY, "num_beams": 6, "num_return_sequences": 6}
    plain = await service.generate(**many, strategy="beam")
    diverse = await service.generate(
        **many, strategy="diverse_beam", num_beam_groups=6, diversity_penalty=100.0
    )

    def beginnings(answer):
        return {sequence["generated_text"][:3] for sequence in answer["sequences"]}

    assert len(beginnings(diverse)) > len(beginnings(plain))
    scores = [sequence["score"] for sequence in diverse["sequences"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "words", [["dog"], ["dog", "lazy"], [["zebra", "fox"], "every day"], ["q"]], ids=str
)
async def test_constrained_beams_hold_their_words(service, words):
    answer = await service.generate(
        **BODY, strategy="constrained_beam", force_words=words, num_return_sequences=2
    )
    for sequence in answer["sequences"]:
        for entry in words:
            options = [entry] if isinstance(entry, str) else entry
            assert any(option in sequence["generated_text"] for option in options)
    assert answer["parameters"]["force_words"] == words


@pytest.mark.parametrize("way", [{"strategy": "diverse_beam"}, {"strategy": "constrained_beam"}])
async def test_they_stream_to_the_same_answer(service, way):
    answer = await service.generate(**BODY, **way, cache=False)
    events = await service.stream(**BODY, **way, cache=False)
    text = "".join(data["text"] for name, data in events if name == "token")
    assert text == answer["generated_text"]
    assert events[-1][1]["generated_text"] == text


@pytest.mark.parametrize(
    ("wrong", "param", "says"),
    [
        ({"strategy": "diverse_beam", "num_beams": 5}, "num_beam_groups", "multiple"),
        (
            {"strategy": "constrained_beam", "force_words": ["what is the best way to learn"] * 9},
            "force_words",
            "raise max_new_tokens",
        ),
        ({"strategy": "constrained_beam", "force_words": [""]}, "force_words", "empty"),
        ({"strategy": "constrained_beam", "force_words": [3]}, "force_words", "string"),
        ({"strategy": "constrained_beam", "force_words": ["a"] * 17}, "force_words", "16"),
        (
            {"strategy": "constrained_beam", "force_words": [["a"] * 9]},
            "force_words",
            "give fewer and shorter ones",
        ),
        (
            {"strategy": "constrained_beam", "force_words": ["</s>"]},
            "force_words",
            "without tokens",
        ),
        (
            {"strategy": "constrained_beam", "force_words": ["dog"], "bad_words": ["dog"]},
            "force_words",
            "leave no way to them",
        ),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused_by_name(service, wrong, param, says):
    response = await service.client.post("/generate", json={**BODY, **wrong})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["param"].startswith(param)
    assert says in error["message"]
