"""The configuration files, read by what will read them: Ray's own schema and our arguments."""

import importlib
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from deploy.ray.arguments import Arguments

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "ray"

# Ray's models are written for an older Pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def manifest():
    return yaml.safe_load((FOLDER / "rayservice.yaml").read_text())


def pods():
    cluster = manifest()["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("source", ["serve.yaml", "rayservice.yaml"])
def test_ray_reads_the_configuration_and_finds_what_it_imports(source):
    text = (FOLDER / source).read_text()
    config = yaml.safe_load(text)
    config = yaml.safe_load(config["spec"]["serveConfigV2"]) if "spec" in config else config
    schema = importlib.import_module("ray.serve.schema").ServeDeploySchema
    (application,) = schema.model_validate(config).applications
    module, _, name = application.import_path.partition(":")
    build = getattr(importlib.import_module(module), name)
    built = build(Arguments.model_validate(application.args))
    api = importlib.import_module("ray.serve._private.build_app").build_app
    assert [each.name for each in api(built, name="beamline").deployments] == ["Replica", "Front"]


def test_the_versions_of_ray_agree():
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert manifest()["spec"]["rayClusterConfig"]["rayVersion"] == pinned == version("ray")
    for pod in pods():
        assert pod["containers"][0]["image"].endswith(f":{version('beamline')}-ray{pinned}")


def test_workers_have_the_cores_that_a_replica_asks_for_and_there_are_enough():
    spec = manifest()["spec"]
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    arguments = Arguments.model_validate(application["args"])
    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    resources = workers["template"]["spec"]["containers"][0]["resources"]
    assert float(resources["limits"]["cpu"]) >= arguments.num_cpus + arguments.front_cpus
    assert workers["minReplicas"] == arguments.min_replicas
    assert workers["maxReplicas"] >= arguments.max_replicas


def test_no_replica_starts_without_keys():
    """As in k8s/components/keys: a Secret that is missing keeps the pod from starting."""
    _, workers = pods()
    (container,) = workers["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "keys")
    (volume,) = (each for each in workers["volumes"] if each["name"] == "keys")
    assert environment["BEAMLINE_KEYS_FILE"] == f"{mount['mountPath']}/keys.json"
    assert volume["secret"] == {"secretName": "beamline-keys", "defaultMode": 0o440}


def test_kubernetes_sets_no_settings_by_accident():
    assert [pod["enableServiceLinks"] for pod in pods()] == [False, False]


def test_rays_ports_ask_for_a_token_and_only_the_services_own_is_open():
    assert manifest()["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}
    policy = yaml.safe_load((FOLDER / "networkpolicy.yaml").read_text())["spec"]
    among_themselves, others = policy["ingress"]
    assert "ports" not in among_themselves
    assert all("podSelector" in each for each in among_themselves["from"])
    assert [each["port"] for each in others["ports"]] == [8000]


def test_only_the_head_whose_autoscaler_needs_it_has_an_account():
    assert manifest()["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] is True
    assert [pod["automountServiceAccountToken"] for pod in pods()] == [True, False]


def test_pods_run_as_the_images_user():
    (user,) = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {pod["securityContext"]["runAsUser"] for pod in pods()} == {int(user)}
