"""`GET /info` against what the service does; `GET /version`."""

from dataclasses import fields
from importlib.metadata import version

import pytest
from jsonschema import Draft202012Validator

from app.settings import Settings
from app.state import ServiceStatus
from decoding.registry import STRATEGIES


@pytest.fixture
async def info(service):
    response = await service.client.get("/info")
    assert response.status_code == 200
    return response.json()


async def test_it_tells_the_model_as_tgi_and_as_we_do(service, info):
    answer = await service.generate(text="a", strategy="greedy", max_new_tokens=1)
    assert info["model_id"] == info["model"]["name"] == answer["model"] == "tiny"
    assert info["model_sha"] == info["model"]["revision"] == "1"
    assert info["model_dtype"] == info["model"]["dtype"]
    assert info["model_device_type"] == info["model"]["device"] == "cpu"
    assert info["fingerprint"] == answer["fingerprint"]
    assert info["version"] == version("beamline")
    assert info["router"] == "beamline"


async def test_its_limits_are_those_that_requests_meet(service, info):
    longest = info["max_total_tokens"]
    assert longest == info["limits"]["context_length"]
    whole = {"strategy": "greedy", "text": "a", "cache": False}
    await service.generate(**whole, max_length=longest)
    assert (await service.post(**whole, max_length=longest + 1)).status_code == 422
    most = info["limits"]["max_rows"]
    assert info["max_best_of"] == most
    drawn = {"strategy": "best_of", "text": "a", "max_new_tokens": 1}
    await service.generate(**drawn, best_of=most)
    assert (await service.post(**drawn, best_of=most + 1)).status_code == 422
    stops = [str(number) for number in range(info["max_stop_sequences"] + 1)]
    assert (await service.post(**whole, stop=stops)).status_code == 422
    await service.generate(**whole, stop=stops[1:], max_new_tokens=1)


class TestOperatorsLimits:
    @pytest.fixture
    def settings(self, tmp_path):
        return Settings(
            cache_folder=tmp_path,
            max_prompt_tokens=9,
            max_new_tokens=8,
            max_sequences=3,
            max_texts=2,
            max_stops=1,
        )

    async def test_they_are_told_where_they_are_lower(self, info):
        limits = info["limits"]
        assert (limits["max_prompt_tokens"], limits["max_new_tokens"]) == (9, 8)
        assert info["max_input_tokens"] == 9
        assert info["max_best_of"] == limits["max_sequences"] == 3
        assert info["max_client_batch_size"] == limits["max_texts"] == 2
        assert info["max_stop_sequences"] == limits["max_stops"] == 1


async def test_its_abilities_are_those_of_the_runtime(service, info):
    abilities = info["abilities"]
    asked = {"text": "a", "max_new_tokens": 1}
    for ability, body in {
        "deterministic": {"deterministic": True},
        "prompt_logprobs": {"prompt_logprobs": 0},
        "speculation": {"prompt_lookup_num_tokens": 2},
        "hidden_states": {"strategy": "contrastive"},
    }.items():
        response = await service.post(**asked, **body)
        assert response.status_code == (200 if abilities[ability] else 422), ability
    assert abilities["chat"] is True


async def test_each_strategy_is_described_by_a_schema_of_its_own_fields(info):
    assert info["default_strategy"] == "sample"
    assert set(info["strategies"]) >= set(STRATEGIES)
    for name, strategy in STRATEGIES.items():
        described = info["strategies"][name]
        Draft202012Validator.check_schema(described["parameters"])
        assert set(described["parameters"]["properties"]) == {
            field.name for field in fields(strategy)
        }
        depends = isinstance(strategy.is_deterministic, property)
        assert described["deterministic"] == (None if depends else strategy.is_deterministic)
        assert described["description"].startswith(strategy.__doc__.strip()[:20])
    beams = info["strategies"]["beam"]["parameters"]["properties"]["num_beams"]
    assert beams["description"]


async def test_adjustments_are_described_by_a_schema_that_stands_alone(info):
    schema = info["adjustments"]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"repetition_penalty": 1.2, "watermark": {"bias": 3.0}})
    assert not validator.is_valid({"watermark": {"bias": 1000.0}})
    assert not validator.is_valid({"colour": 1})


async def test_the_version_is_told_even_while_loading(service):
    service.parts.status = ServiceStatus.LOADING
    try:
        assert (await service.client.get("/info")).status_code == 503
        answer = await service.client.get("/version")
    finally:
        service.parts.status = ServiceStatus.READY
    assert answer.json() == {"version": version("beamline")}
