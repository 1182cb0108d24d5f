"""The pods: what probes ask exists, ports agree, and nothing runs with more than it needs."""

import tomllib

import pytest

from app.main import create_app
from app.settings import Settings
from machine.cores import usable_cores
from tests.deploy.kubernetes.rendering import (
    COMPONENT_NAMES,
    OVERLAY_NAMES,
    ROOT,
    container_of,
    named,
    of_kind,
    overlay,
    pod_of,
    settings_of,
    with_components,
)
from tests.machine.written_groups import WrittenGroups

MEBIBYTE = 2**20
UNITS = {"Ki": 2**10, "Mi": MEBIBYTE, "Gi": 2**30}

every_overlay = pytest.mark.parametrize("name", OVERLAY_NAMES)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The production overlay with what it leaves out."""
    return with_components(tmp_path_factory.mktemp("all"), "production", ["gateway", "keda"])


def quantity(text: str) -> float:
    """A quantity of Kubernetes as a number."""
    for unit, factor in UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def workloads(resources) -> dict[str, dict]:
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in of_kind(resources, "Deployment")
    }


def containers(pod) -> list[dict]:
    return pod.get("initContainers", []) + pod["containers"]


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Paths that answer GET."""
    document = create_app(Settings(cache_folder=tmp_path_factory.mktemp("cache"))).openapi()
    return {path for path, methods in document["paths"].items() if "get" in methods}


@every_overlay
def test_probes_ask_for_routes_that_exist(name, routes):
    container = container_of(overlay(name))
    paths = {
        probe: container[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert set(paths.values()) <= routes
    assert paths["startupProbe"] == paths["readinessProbe"] == "/readyz"
    assert paths["livenessProbe"] == "/livez"


@every_overlay
def test_ports_agree(name):
    container, settings = container_of(overlay(name)), settings_of(overlay(name))
    (port,) = container["ports"]
    assert port["containerPort"] == int(settings["BEAMLINE_PORT"])
    assert settings["BEAMLINE_HOST"] == "0.0.0.0"
    probes = [container[each] for each in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {probe["httpGet"]["port"] for probe in probes} == {port["name"]}
    (service_port,) = named(overlay(name), "Service")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]


def test_every_named_port_is_one_of_the_pods_it_is_asked_of(everything, routes):
    pods = workloads(everything)
    for service in of_kind(everything, "Service"):
        wanted = {each["targetPort"] for each in service["spec"]["ports"]}
        pod = pods[service["spec"]["selector"]["app.kubernetes.io/name"]]["spec"]
        assert wanted <= {
            port["name"] for each in containers(pod) for port in each.get("ports", [])
        }
    (monitor,) = of_kind(everything, "ServiceMonitor")
    ports = {each["name"] for each in named(everything, "Service")["spec"]["ports"]}
    assert {each["port"] for each in monitor["spec"]["endpoints"]} <= ports
    assert {each["path"] for each in monitor["spec"]["endpoints"]} <= routes


def test_no_container_has_more_rights_than_it_needs(everything):
    for name, template in workloads(everything).items():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is (name == "beamline-picker")
        # A Service named beamline-... would set BEAMLINE_ variables that are refused.
        assert pod["enableServiceLinks"] is False
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] >= 10_000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


@every_overlay
def test_what_is_mounted_exists_and_what_must_be_written_is_mounted(name):
    pod, settings = pod_of(overlay(name)), settings_of(overlay(name))
    volumes = {each["name"]: each for each in pod["volumes"]}
    for container in containers(pod):
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert {each["name"] for each in mounts.values()} <= volumes.keys()
        writable = {path for path, each in mounts.items() if not each.get("readOnly")}
        assert {"/tmp", settings["BEAMLINE_CACHE_FOLDER"]} <= writable
        variables = {each["name"]: each["value"] for each in container["env"]}
        assert variables["HOME"] in writable
        assert variables["HF_HOME"].startswith(settings["BEAMLINE_CACHE_FOLDER"] + "/")
    keys_file = settings.get("BEAMLINE_KEYS_FILE")
    if keys_file is not None:
        (container,) = pod["containers"]
        mounted = [each for each in container["volumeMounts"] if each["name"] == "keys"]
        assert [keys_file.rpartition("/")[0]] == [each["mountPath"] for each in mounted]
        assert "subPath" not in mounted[0]  # whose file would never be renewed


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


def test_startup_may_take_as_long_as_a_rollout_waits():
    probe = container_of(overlay("cpu"))["startupProbe"]
    deployment = named(overlay("cpu"), "Deployment")["spec"]
    assert (
        probe["periodSeconds"] * probe["failureThreshold"] < deployment["progressDeadlineSeconds"]
    )
    # Liveness may not end a pod while the engine is only slow.
    stall = Settings().stall_seconds
    live = container_of(overlay("cpu"))["livenessProbe"]
    assert live["timeoutSeconds"] <= live["periodSeconds"] < stall


def test_readme_names_every_overlay_and_component():
    text = (ROOT / "k8s" / "README.md").read_text()
    for name in OVERLAY_NAMES + COMPONENT_NAMES:
        assert f"`{name}`" in text
