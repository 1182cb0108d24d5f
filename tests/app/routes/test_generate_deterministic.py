"""`deterministic` is a promise or a refusal; the fingerprint says when it holds."""

from dataclasses import replace

import pytest

from app.generation.cache_key import ModelIdentity

BODY = {"text": "what is the best way", "seed": 3, "max_new_tokens": 5}
IDENTITY = ModelIdentity(name="tiny", revision="1", runtime="torch")


async def test_a_runtime_that_cannot_promise_it_refuses(service):
    """The tiny service runs on torch."""
    response = await service.post(**BODY, deterministic=True)
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["param"] == "deterministic"
    assert "cannot promise the same bits; leave this out" in error["message"]


async def test_a_runtime_that_promises_it_answers(service, monkeypatch):
    preparer = service.generator.judge.preparer
    limits = replace(preparer.fit.limits, is_deterministic=True)
    able = replace(preparer, fit=replace(preparer.fit, limits=limits))
    monkeypatch.setattr(service.generator, "_preparer", able)
    answer = await service.generate(**BODY, deterministic=True)
    assert answer["generated_text"] == (await service.generate(**BODY))["generated_text"]


async def test_every_answer_carries_the_fingerprint(service):
    answer = await service.generate(**BODY)
    assert answer["fingerprint"] == IDENTITY.fingerprint
    assert answer["fingerprint"].startswith("fp_")


@pytest.mark.parametrize(
    "other",
    [
        ModelIdentity(name="large", revision="1", runtime="torch"),
        ModelIdentity(name="tiny", revision="2", runtime="torch"),
        ModelIdentity(name="tiny", revision="1", runtime="onnx"),
    ],
)
def test_another_model_revision_or_runtime_has_another_fingerprint(other):
    assert other.fingerprint != IDENTITY.fingerprint
