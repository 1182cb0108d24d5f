"""A watermark over HTTP: every strategy can be marked, and the mark is found."""

import pytest

from decoding.adjustments import Watermark
from decoding.registry import STRATEGIES
from decoding.watermark import detect as count

BODY = {"text": "what is the best way", "seed": 3, "max_new_tokens": 60, "return_full_text": False}
MARK = {"bias": 20.0, "hashing_key": 99}


async def detect(service, text, **watermark):
    response = await service.post("/watermark/detect", text=text, watermark=watermark)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_marked_texts_hold_far_more_green_tokens_than_plain_ones(service, strategy):
    way = {**BODY, "strategy": strategy, "details": True}
    vocab_size = service.generator.judge.preparer.fit.limits.vocab_size
    watermark = Watermark(**MARK)
    scores = []
    for body in (way, {**way, "watermark": MARK}):
        answer = await service.generate(**body)
        ids = [token["id"] for token in answer["details"]["tokens"][0]]
        scores.append(count(ids, watermark, vocab_size).z_score)
    plain, marked = scores
    assert marked > 3 > plain
    assert answer["parameters"]["watermark"] == MARK | {"greenlist_ratio": 0.25}


async def test_the_route_counts_the_tokens_of_a_text(service, byte_level_tokenizer):
    answer = await service.generate(
        **BODY, strategy="greedy", watermark=MARK, suppress_tokens=list(range(2, 260))
    )
    text = answer["generated_text"]
    found = await detect(service, text, **MARK)
    num_tokens = len(byte_level_tokenizer.encode(text, add_special_tokens=False))
    assert found["num_tokens_scored"] == num_tokens - 1
    assert found["num_green_tokens"] <= num_tokens - 1
    assert found["is_watermarked"] == (found["z_score"] > 3)
    other = await detect(service, text, hashing_key=100)
    assert other["num_green_tokens"] != found["num_green_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/generate", {**BODY, "watermark": {"greenlist_ratio": 0.0}}, "watermark.greenlist_ratio"),
        ("/generate", {**BODY, "watermark": {"scheme": "x"}}, "watermark.scheme"),
        ("/generate", {**BODY, "watermark": True}, "watermark"),
        ("/watermark/detect", {"text": ""}, "text"),
        ("/watermark/detect", {"text": "a" * 3000}, "text"),
    ],
    ids=str,
)
async def test_mistakes_are_refused_by_name(service, path, body, param):
    response = await service.post(path, **body)
    assert response.status_code == 422
    assert response.json()["error"]["param"] == param
