"""The map that the endpoint picker gets names series of a live server; so do vLLM's names."""

import re

import pytest
import yaml

from app.settings import Settings
from tests.deploy.kubernetes.rendering import (
    COMPONENTS,
    container_of,
    named,
    of_kind,
    settings_of,
    with_components,
)

# What the model-server protocol asks for, in the words of llm-d's picker: its own map for vLLM.
VLLM = {
    "queuedRequestsSpec": "vllm:num_requests_waiting",
    "runningRequestsSpec": "vllm:num_requests_running",
    "kvUsageSpec": "vllm:kv_cache_usage_perc",
    "cacheInfoSpec": "vllm:cache_config_info",
}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    return with_components(tmp_path_factory.mktemp("gateway"), "production", ["gateway"])


def picker_config() -> dict:
    return yaml.safe_load((COMPONENTS / "gateway" / "picker-config.yaml").read_text())


def extractor_parameters() -> dict:
    (found,) = [
        each["parameters"]
        for each in picker_config()["plugins"]
        if each["type"] == "core-metrics-extractor"
    ]
    return found


def engine_config() -> dict:
    (found,) = extractor_parameters()["engineConfigs"]
    return found


def test_the_map_covers_the_protocol():
    assert VLLM.keys() <= engine_config().keys()


@pytest.mark.parametrize("concept", sorted(VLLM))
@pytest.mark.parametrize("dialect", ["ours", "vllm"])
def test_every_mapped_series_is_a_live_gauge(concept, dialect, live_families):
    name = engine_config()[concept] if dialect == "ours" else VLLM[concept]
    family = live_families[name]
    assert family.type == "gauge"
    (sample,) = family.samples  # one: the picker takes the latest of several
    assert sample.name == name
    if concept == "kvUsageSpec":
        assert 0 <= sample.value <= 1
    if concept == "cacheInfoSpec":
        config = engine_config()
        labels = (config["cacheBlockSizeLabelName"], config["cacheNumBlocksLabelName"])
        for label in labels if dialect == "ours" else ("block_size", "num_gpu_blocks"):
            assert int(sample.labels[label]) > 0


def test_pods_carry_the_label_that_chooses_the_map(manifests):
    template = named(manifests, "Deployment")["spec"]["template"]
    parameters = extractor_parameters()
    assert template["metadata"]["labels"][parameters["engineLabelKey"]] == engine_config()["name"]
    assert parameters["defaultEngine"] == engine_config()["name"]


def test_the_picker_reads_metrics_where_the_pool_sends_requests_and_without_a_key(manifests):
    pool = named(manifests, "InferencePool")["spec"]
    (port,) = container_of(manifests)["ports"]
    assert pool["targetPorts"] == [{"number": port["containerPort"]}]
    assert settings_of(manifests)["BEAMLINE_PUBLIC_METRICS"] == "true"
    (source,) = [p for p in picker_config()["plugins"] if p["type"] == "metrics-data-source"]
    assert source["parameters"] == {"scheme": "http", "path": "/metrics"}


def test_profiles_name_plugins_that_are_declared():
    config = picker_config()
    declared = {each["type"] for each in config["plugins"]}
    for profile in config["schedulingProfiles"]:
        assert {each["pluginRef"] for each in profile["plugins"]} <= declared


def test_pool_route_and_picker_name_each_other(manifests):
    pool, route = named(manifests, "InferencePool"), named(manifests, "HTTPRoute")["spec"]
    picker = pool["spec"]["endpointPickerRef"]
    service = named(manifests, "Service", picker["name"])
    assert picker["port"]["number"] in {each["port"] for each in service["spec"]["ports"]}
    (rule,) = route["rules"]
    assert [each["name"] for each in rule["backendRefs"]] == [pool["metadata"]["name"]]
    pod = named(manifests, "Deployment", "beamline-picker")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = dict(each.removeprefix("--").split("=", 1) for each in container["args"])
    assert arguments["pool-name"] == pool["metadata"]["name"]
    assert arguments["pool-group"] == pool["apiVersion"].partition("/")[0]
    folder, _, file = arguments["config-file"].rpartition("/")
    assert [each["mountPath"] for each in container["volumeMounts"]] == [folder]
    (volume,) = pod["volumes"]
    (config,) = [
        each
        for each in of_kind(manifests, "ConfigMap")
        if each["metadata"]["name"] == volume["configMap"]["name"]
    ]
    assert yaml.safe_load(config["data"][file]) == picker_config()


def test_the_gateway_waits_longer_than_any_request_takes(manifests):
    (rule,) = named(manifests, "HTTPRoute")["spec"]["rules"]
    seconds = float(re.fullmatch(r"(\d+)s", rule["timeouts"]["request"])[1])
    settings = settings_of(manifests)
    assert seconds > float(settings["BEAMLINE_MAX_TIMEOUT_SECONDS"])
    # Streams say something before a proxy takes silence for an end.
    assert Settings().sse_keep_alive_seconds * 2 <= seconds
