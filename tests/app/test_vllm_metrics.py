"""vLLM's names show the same numbers as ours, and only where they are asked for."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.settings import Settings, SettingsError, load_settings

PAIRS = {
    "vllm:num_requests_running": "running_requests",
    "vllm:num_requests_waiting": "waiting_requests",
    "vllm:kv_cache_usage_perc": "kv_cache_usage_ratio",
}


@pytest.fixture
def settings(tmp_path):
    return Settings(cache_folder=tmp_path, metrics_compat="vllm")


async def scrape(service):
    """The families of `GET /metrics` by name."""
    response = await service.client.get("/metrics")
    return {each.name: each for each in text_string_to_metric_families(response.text)}


def only_sample(family):
    (sample,) = family.samples
    return sample


async def test_gauges_of_both_names_agree_while_requests_run_and_wait(service):
    service.hold()
    body = {"text": "The sea", "strategy": "sample", "num_return_sequences": 8}
    body |= {"min_new_tokens": 100, "max_new_tokens": 100}
    asking = [asyncio.create_task(service.post(**body, seed=seed)) for seed in range(3)]
    await service.held()
    while service.worker.stats.num_waiting_requests != 2:  # which the next step's plan tells
        service.hold()
        service.runner.may_run.set()
        await service.held()
    found = await scrape(service)
    values = {name: only_sample(found[name]).value for name in PAIRS}
    assert values["vllm:num_requests_running"] == 1
    assert values["vllm:num_requests_waiting"] == 2
    assert 0 < values["vllm:kv_cache_usage_perc"] <= 1
    for theirs, ours in PAIRS.items():
        assert values[theirs] == only_sample(found[ours]).value
        assert only_sample(found[theirs]).labels == {"model_name": "tiny", "engine": "0"}
        assert found[theirs].type == "gauge"
    service.release()
    assert all(answer.status_code == 200 for answer in await asyncio.gather(*asking))


async def test_cache_info_tells_blocks_of_the_runner(service):
    limits = service.worker.limits
    found = await scrape(service)
    ours = only_sample(found["kv_cache_info"])
    theirs = only_sample(found["vllm:cache_config_info"])
    num_blocks = str(limits.max_cached_tokens // 4)
    assert ours.labels == {"block_size": "4", "num_blocks": num_blocks}
    assert theirs.labels == {"engine": "0", "block_size": "4", "num_gpu_blocks": num_blocks}
    assert (ours.value, theirs.value) == (1, 1)


async def test_series_wait_for_the_model(service):
    service.parts.model = None
    assert not any(name.startswith("vllm:") for name in await scrape(service))


class TestWithoutTheSetting:
    @pytest.fixture
    def settings(self, tmp_path):
        return Settings(cache_folder=tmp_path)

    async def test_there_is_no_series_of_vllm(self, service):
        found = await scrape(service)
        assert "running_requests" in found
        assert not any(name.startswith("vllm:") for name in found)


def test_another_name_is_refused_with_those_that_are_known(monkeypatch):
    monkeypatch.setenv("BEAMLINE_METRICS_COMPAT", "sglang")
    with pytest.raises(SettingsError, match=r"--metrics-compat .* 'vllm'; it is 'sglang'"):
        load_settings()
