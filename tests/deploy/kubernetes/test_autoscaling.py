"""There is one autoscaler, it reads metrics that exist, and a lost scrape scales nothing down."""

import re

import pytest
import yaml

from tests.deploy.kubernetes.rendering import (
    COMPONENTS,
    OVERLAY_NAMES,
    named,
    of_kind,
    overlay,
    with_components,
)

SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


@pytest.fixture(scope="module")
def with_keda(tmp_path_factory):
    return with_components(tmp_path_factory.mktemp("keda"), "production", ["keda"])


def adapter_rules() -> list[dict]:
    path = COMPONENTS / "hpa" / "prometheus-adapter-values.yaml"
    return yaml.safe_load(path.read_text())["rules"]["custom"]


def pod_metrics(resources) -> dict[str, str]:
    """Names and targets of the metrics of pods that the autoscaler asks for."""
    metrics = named(resources, "HorizontalPodAutoscaler")["spec"]["metrics"]
    pods = [each["pods"] for each in metrics if each["type"] == "Pods"]
    return {each["metric"]["name"]: each["target"]["averageValue"] for each in pods}


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_an_overlay_has_one_scaler_at_most_and_sets_no_replicas_beside_it(name, tmp_path):
    num_scalers = sum(len(of_kind(overlay(name), kind)) for kind in SCALERS)
    assert num_scalers == (0 if name == "dev" else 1)
    assert "replicas" not in named(overlay(name), "Deployment")["spec"]
    with_another = with_components(tmp_path, name, ["keda"])
    assert sum(len(of_kind(with_another, kind)) for kind in SCALERS) == 1


def test_the_scaler_scales_the_deployment(with_keda):
    assert named(overlay("cpu"), "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": named(overlay("cpu"), "Deployment")["metadata"]["name"],
    }
    assert named(with_keda, "ScaledObject")["spec"]["scaleTargetRef"] == {"name": "beamline"}


@pytest.mark.parametrize("name", ["cpu", "gpu", "production"])
def test_the_autoscalers_metrics_are_made_by_the_rule_from_a_live_gauge(name, live_families):
    (rule,) = adapter_rules()
    assert set(pod_metrics(overlay(name))) == {rule["name"]["as"]}
    series = re.match(r"\w+", rule["seriesQuery"])[0]
    assert re.fullmatch(rule["name"]["matches"], series)
    assert live_families[series].type == "gauge"


def test_cpu_is_a_reason_to_scale_on_cpus_only():
    kinds = {
        name: {e["type"] for e in named(overlay(name), SCALERS[0])["spec"]["metrics"]}
        for name in ("cpu", "gpu")
    }
    assert kinds == {"cpu": {"Pods", "Resource"}, "gpu": {"Pods"}}


def test_both_scalers_say_the_same(with_keda):
    autoscaler = named(overlay("production"), "HorizontalPodAutoscaler")["spec"]
    scaled = named(with_keda, "ScaledObject")["spec"]
    assert scaled["minReplicaCount"] == autoscaler["minReplicas"] >= 2
    assert scaled["maxReplicaCount"] == autoscaler["maxReplicas"]
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == autoscaler["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300
    (trigger,) = scaled["triggers"]
    assert (
        trigger["metadata"]["threshold"]
        == pod_metrics(overlay("production"))["beamline_waiting_requests"]
    )


def test_keda_asks_for_one_number_of_a_live_gauge_with_the_labels_of_its_scrape(
    with_keda, live_families
):
    (trigger,) = named(with_keda, "ScaledObject")["spec"]["triggers"]
    query = re.fullmatch(r"sum\((\w+)\{(.+)\}\)", trigger["metadata"]["query"])
    assert live_families[query[1]].type == "gauge"
    labels = dict(re.findall(r'(\w+)="([^"]+)"', query[2]))
    # The operator calls a job like the Service, unless the monitor has a jobLabel.
    monitor, service = named(with_keda, "ServiceMonitor"), named(with_keda, "Service")
    assert "jobLabel" not in monitor["spec"]
    metadata = service["metadata"]
    assert labels == {"job": metadata["name"], "namespace": metadata["namespace"]}


def test_a_lost_scrape_keeps_the_pods_there_are(with_keda):
    scaled = named(with_keda, "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"  # else no series counts as zero
    assert trigger["metricType"] == "AverageValue"  # with others KEDA has no fallback
    fallback = scaled["fallback"]
    assert fallback["behavior"] == "currentReplicasIfHigher"
    assert scaled["minReplicaCount"] <= fallback["replicas"] <= scaled["maxReplicaCount"]
