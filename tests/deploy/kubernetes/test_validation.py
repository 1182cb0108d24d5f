"""Every overlay, alone and with every component on it, is valid for every version we name.

And the check can fail: what it must catch is shown to it.
"""

import copy
import json

import pytest
import yaml

from tests.deploy.kubernetes.rendering import (
    COMPONENT_NAMES,
    OVERLAY_NAMES,
    ROOT,
    named,
    overlay,
    with_components,
)
from tests.deploy.kubernetes.schemas import CRDS, VERSIONS, custom_validator, problems

# Manifests that kustomize does not render.
OTHERS = ("deploy/ray/rayservice.yaml", "deploy/ray/networkpolicy.yaml")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> list[dict]:
    """All different manifests of all overlays and of each component on the smallest of them."""
    found = [resource for name in OVERLAY_NAMES for resource in overlay(name)]
    for name in COMPONENT_NAMES:
        found += with_components(tmp_path_factory.mktemp(name), "dev", [name])
    for pattern in OTHERS:
        for path in ROOT.glob(pattern):
            with path.open() as file:
                found += list(yaml.load_all(file, yaml.CSafeLoader))
    return list({json.dumps(each, sort_keys=True): each for each in found}.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(rendered, version):
    assert len(rendered) > 40
    assert [each for resource in rendered for each in problems(resource, version)] == []


def test_every_custom_kind_has_its_schema_here(rendered):
    groups = (".coreos.com/", "keda.sh/", "gateway.networking.", "inference.networking.", "ray.io/")
    custom = {each["kind"] for each in rendered if any(g in each["apiVersion"] for g in groups)}
    assert custom >= {"ScaledObject", "ServiceMonitor", "InferencePool", "HTTPRoute"}
    assert custom <= {path.stem for path in CRDS.glob("*.json")}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "tolerance"), []),
        ("Deployment", ("spec", "template", "spec", "terminationGracePeriodSeconds"), "long"),
        ("HorizontalPodAutoscaler", ("spec", "maxReplica"), 3),
        ("PodDisruptionBudget", ("spec", "unhealthyPodEviction"), "AlwaysAllow"),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("Service", ("spec", "ports"), [{"prot": 1}]),
    ],
)
def test_a_wrong_field_is_found(kind, path, value):
    resource = copy.deepcopy(named(overlay("cpu"), kind))
    assert problems(resource, VERSIONS[-1]) == []
    inner = resource
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert problems(resource, VERSIONS[-1])


@pytest.mark.parametrize(
    ("component", "kind", "path", "value"),
    [
        ("keda", "ScaledObject", ("spec", "fallback", "replica"), 4),
        ("keda", "ScaledObject", ("spec", "fallback", "behavior"), "hope"),
        ("keda", "ScaledObject", ("spec", "triggers"), [{"metadata": {}}]),
        ("monitoring", "ServiceMonitor", ("spec", "endpoint"), []),
        ("monitoring", "ServiceMonitor", ("spec", "endpoints"), [{"interval": "soon"}]),
        ("gateway", "InferencePool", ("spec", "targetPorts"), [{"number": 80_000}]),
        ("gateway", "InferencePool", ("spec", "endpointPickerRef", "failureMode"), "FailWell"),
        ("gateway", "HTTPRoute", ("spec", "rules"), [{"timeouts": {"request": "150"}}]),
    ],
)
def test_a_wrong_field_of_a_custom_kind_is_found(tmp_path, component, kind, path, value):
    resource = named(with_components(tmp_path, "dev", [component]), kind)
    assert problems(resource, VERSIONS[-1]) == []
    inner = resource
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert problems(resource, VERSIONS[-1])


def test_an_old_version_does_not_know_a_new_field():
    resource = copy.deepcopy(named(overlay("cpu"), "Deployment"))
    (container,) = resource["spec"]["template"]["spec"]["containers"]
    container["lifecycle"]["stopSignal"] = "SIGTERM"  # since 1.33
    assert problems(resource, "1.31")
    assert problems(resource, "1.34") == []


@pytest.mark.parametrize("path", sorted(CRDS.glob("*.json")), ids=lambda path: path.stem)
def test_kept_schemas_can_be_used(path):
    kept = json.loads(path.read_text())
    validator = custom_validator(kept["apiVersion"], kept["kind"])
    validator.check_schema(validator.schema)
    resource = {"apiVersion": kept["apiVersion"], "kind": kept["kind"], "metadata": {}}
    assert not validator.is_valid(resource | {"unknown": 1})
