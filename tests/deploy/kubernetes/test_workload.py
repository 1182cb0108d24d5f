"""The pods: what each probe is for, which image they run, and how much of a node they get."""

import tomllib

import pytest

from app.settings import Settings
from machine.cores import usable_cores
from tests.deploy.kubernetes.listening import PROBES
from tests.deploy.kubernetes.rendering import (
    COMPONENT_NAMES,
    OVERLAY_NAMES,
    ROOT,
    container_of,
    named,
    overlay,
    pod_of,
    settings_of,
)
from tests.machine.written_groups import WrittenGroups

MEBIBYTE = 2**20
UNITS = {"Ki": 2**10, "Mi": MEBIBYTE, "Gi": 2**30}

every_overlay = pytest.mark.parametrize("name", OVERLAY_NAMES)


def quantity(text: str) -> float:
    """A quantity of Kubernetes as a number."""
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def containers(pod) -> list[dict]:
    return pod.get("initContainers", []) + pod["containers"]


@every_overlay
def test_each_probe_asks_what_it_is_for(name):
    container = container_of(overlay(name))
    asked = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    assert asked == dict(zip(PROBES, ("/startupz", "/readyz", "/livez"), strict=True))
    # A pod that answers late is busy, as the others are: its load would be theirs.
    ready = container["readinessProbe"]
    assert ready["timeoutSeconds"] >= 5
    assert ready["failureThreshold"] >= 3
    # Liveness may not end a pod while the engine is only slow, nor before readiness has.
    live = container["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] > 2 * ready["timeoutSeconds"]
    assert live["timeoutSeconds"] <= live["periodSeconds"] < Settings().stall_seconds


@every_overlay
def test_containers_run_one_version_of_the_image(name):
    images = {each["image"] for each in containers(pod_of(overlay(name)))}
    assert len(images) == 1
    (image,) = images
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert image in {f"beamline:{version}", f"beamline:{version}-cuda", "beamline:dev"}


@pytest.mark.parametrize("name", ["cpu", "dev", "production"])
def test_cpu_pods_are_guaranteed_whole_cores_and_fit_into_their_memory(name, tmp_path):
    for container in containers(pod_of(overlay(name))):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]  # the QoS class Guaranteed
        cores, memory = (quantity(resources["limits"][each]) for each in ("cpu", "memory"))
        assert cores == int(cores)
        groups = WrittenGroups(tmp_path / container["name"])
        groups.unified("/")  # as the kubelet writes it for this limit
        groups.write("unified", "/", {"cpu.max": f"{int(cores * 100_000)} 100000"})
        assert usable_cores(groups.process) <= cores
        cache = int(settings_of(overlay(name))["BEAMLINE_KV_CACHE_BYTES"])
        assert cache <= memory / 4


def test_gpu_pods_ask_for_one_gpu_where_there_are_some():
    pod, settings = pod_of(overlay("gpu")), settings_of(overlay("gpu"))
    for container in containers(pod):
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["image"].endswith("-cuda")
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod[
        "tolerations"
    ]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert settings["BEAMLINE_DEVICE"] == "cuda"
    assert "BEAMLINE_KV_CACHE_BYTES" not in settings  # what the GPU has free decides


@pytest.mark.parametrize("name", ["gpu", "production"])
def test_models_of_the_hub_are_fetched_at_a_commit_and_then_served_offline(name):
    settings = settings_of(overlay(name))
    revision = settings["BEAMLINE_REVISION"]
    assert len(revision) == 40
    assert int(revision, 16)
    pod = pod_of(overlay(name))
    fetch, serve = containers(pod)
    assert fetch["args"] == ["models", "prepare"]
    assert fetch["envFrom"][0] == serve["envFrom"][0]  # the same settings find what was made
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in serve["env"]
    assert "HF_HUB_OFFLINE" not in {each["name"] for each in fetch["env"]}
    (cache,) = [each for each in pod["volumes"] if each["name"] == "cache"]
    claim = named(overlay(name), "PersistentVolumeClaim", "beamline-cache")
    assert cache == {
        "name": "cache",
        "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]},
    }


def test_readme_names_every_overlay_and_component():
    text = (ROOT / "k8s" / "README.md").read_text()
    for name in OVERLAY_NAMES + COMPONENT_NAMES:
        assert f"`{name}`" in text
