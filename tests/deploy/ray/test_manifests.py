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


def test_kubernetes_sets_no_settings_by_accident():
    assert [pod["enableServiceLinks"] for pod in pods()] == [False, False]
