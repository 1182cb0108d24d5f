"""The chart says what the overlays say, is valid whatever its values, and refuses wrong ones."""

import json
import tomllib

import pytest
import yaml

from app.settings import ENVIRONMENT_ONLY
from tests.deploy.kubernetes.chart import (
    CHART,
    PRESET_NAMES,
    PRESETS,
    VARIANTS,
    chart,
    comparable,
    helm,
)
from tests.deploy.kubernetes.consistency import faults
from tests.deploy.kubernetes.rendering import (
    OVERLAY_NAMES,
    ROOT,
    container_of,
    named,
    of_kind,
    overlay,
    pod_of,
    with_components,
)
from tests.deploy.kubernetes.schemas import VERSIONS, problems

# A chart is put into a namespace that is there, and whose other pods are not its affair.
KUSTOMIZE_ONLY = {("Namespace", "beamline"), ("NetworkPolicy", "default-deny")}
KEDA = {"autoscaling": {"kind": "keda"}}


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_the_chart_is_the_overlay_object_by_object(name):
    presets = () if name == "cpu" else (name,)  # which values.yaml itself is
    ours, theirs = comparable(chart(*presets)), comparable(overlay(name))
    assert theirs.keys() - ours.keys() == KUSTOMIZE_ONLY
    assert ours == {each: theirs[each] for each in theirs.keys() - KUSTOMIZE_ONLY}


def test_the_chart_scales_by_keda_as_the_component_does(tmp_path):
    theirs = comparable(with_components(tmp_path, "production", ["keda"]))
    ours = comparable(chart("production", values=KEDA))
    assert ours == {each: theirs[each] for each in theirs.keys() - KUSTOMIZE_ONLY}


def test_each_overlay_is_a_preset():
    assert set(PRESET_NAMES) == set(OVERLAY_NAMES) - {"cpu"}


def test_lint_finds_nothing():
    for preset in (None, *PRESET_NAMES):
        values = [] if preset is None else ["--values", PRESETS / f"{preset}.yaml"]
        done = helm("lint", "--strict", CHART, *values)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_valid_and_fits_together(variant, routes):
    rendered = chart(values=VARIANTS[variant])
    for version in VERSIONS:
        assert [each for resource in rendered for each in problems(resource, version)] == []
    assert faults(rendered, routes) == []


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_two_releases_in_a_namespace_leave_each_other_alone(preset, routes):
    both = chart(preset, values=KEDA) + chart(preset, values=KEDA, release="other")
    assert len({(each["kind"], each["metadata"]["name"]) for each in both}) == len(both)
    shared = {each["metadata"]["name"]: each for each in both if each["kind"] == "Deployment"}
    assert {"beamline", "other-beamline"} <= shared.keys()
    assert faults(both, routes) == []  # each selector finds one workload


def test_a_package_holds_all_that_the_chart_needs(tmp_path):
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    packed = chart(source=package, values=VARIANTS["everything"])
    assert packed == chart(values=VARIANTS["everything"])
    assert named(packed, "PrometheusRule")["spec"]["groups"]


def test_one_value_keeps_the_drain_and_its_grace_period_together():
    before, after = chart(), chart(values={"drainSeconds": 600})
    grace = [pod_of(each)["terminationGracePeriodSeconds"] for each in (before, after)]
    assert grace == [160, 640]
    settings = named(after, "ConfigMap", "beamline-settings")["data"]
    assert settings["BEAMLINE_GRACE_SECONDS"] == settings["BEAMLINE_MAX_TIMEOUT_SECONDS"] == "600"


def test_a_changed_setting_rolls_the_pods_and_a_changed_size_of_the_budget_does_not():
    def checksum(values: dict) -> str:
        template = named(chart(values=values), "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/settings"]

    assert checksum({}) == checksum({"podDisruptionBudget": False})
    assert checksum({}) != checksum({"settings": {"BEAMLINE_MAX_ROWS": 32}})


def test_large_numbers_are_written_out():
    data = named(chart(), "ConfigMap", "beamline-settings")["data"]
    assert data["BEAMLINE_KV_CACHE_BYTES"] == "1073741824"
    data = named(chart(values=VARIANTS["everything"]), "ConfigMap", "beamline-settings")["data"]
    assert data["BEAMLINE_MAX_ROWS"] == "32"
    assert data["BEAMLINE_CACHE_REDIS_TIMEOUT_SECONDS"] == "0.1"


def test_the_platform_may_choose_the_user():
    contexts = [
        each["spec"]["template"]["spec"]["securityContext"]
        for each in of_kind(chart(values=VARIANTS["openshift"]), "Deployment")
    ]
    assert len(contexts) == 2
    for context in contexts:
        assert context["runAsNonRoot"] is True
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"replica": 3}, "replica"),
        ({"autoscaling": {"maxReplica": 3}}, "maxReplica"),
        ({"autoscaling": {"kind": "vpa"}}, "kind"),
        ({"settings": {"max_rows": 3}}, "max_rows"),
        ({"settings": {"BEAMLINE_API_KEYS": "sk-in-a-config-map"}}, "BEAMLINE_API_KEYS"),
        ({"settings": {"BEAMLINE_GRACE_SECONDS": 10}}, "BEAMLINE_GRACE_SECONDS"),
        ({"model": {"source": "org/model"}}, "revision"),
        ({"model": {"source": "org/model", "revision": "main"}}, "revision"),
        ({"keys": {"existingSecret": ""}}, "keys.existingSecret is empty"),
        ({"keys": {"plain": "sk-only-for-development"}}, "exclude each other"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
        ({"user": 0}, "user"),
        ({"drainSeconds": "2m"}, "drainSeconds"),
        ({"resources": {"limits": {"cpu": "many"}}}, "cpu"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_wrong_values_are_refused_by_name(values, reason):
    flags = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    done = helm("template", "beamline", CHART, *flags)
    assert done.returncode != 0
    assert reason in done.stderr


def test_no_secret_is_taken_as_a_setting():
    schema = json.loads((CHART / "values.schema.json").read_text())
    refused = schema["properties"]["settings"]["propertyNames"]["not"]["enum"]
    assert {f"BEAMLINE_{name.upper()}" for name in ENVIRONMENT_ONLY} <= set(refused)


def test_every_value_is_in_the_schema_and_every_name_of_the_schema_is_a_value():
    def compare(values: dict, schema: dict) -> None:
        assert schema["properties"].keys() - {"global"} == values.keys()
        for name, inner in schema["properties"].items():
            if "properties" in inner and name != "resources":
                compare(values[name], inner)

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    compare(values, json.loads((CHART / "values.schema.json").read_text()))


def test_the_charts_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == project["version"]
    assert container_of(chart())["image"] == f"beamline:{project['version']}"
