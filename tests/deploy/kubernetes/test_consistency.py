"""Everything fits together, and what does not is found: each break here is shown to the check.

`everything` is the production overlay with what it leaves out, so that each kind is there once.
"""

import copy

import pytest

from tests.deploy.kubernetes.consistency import SECRETS, faults
from tests.deploy.kubernetes.manifests import Manifests
from tests.deploy.kubernetes.rendering import (
    COMPONENT_NAMES,
    GENERATED,
    OVERLAY_NAMES,
    components_of,
    overlay,
    with_components,
)

POD = "spec.template.spec"
SERVES = f"{POD}.containers.0"
PICKER = "beamline-picker"
LACKING = [
    (base, name)
    for base in OVERLAY_NAMES
    for name in COMPONENT_NAMES
    if name not in components_of(base)
]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return with_components(tmp_path_factory.mktemp("all"), "production", ["gateway", "keda"])


@pytest.mark.parametrize("name", OVERLAY_NAMES)
def test_an_overlay_fits_together(name, routes):
    assert faults(list(overlay(name)), routes) == []


@pytest.mark.parametrize(("base", "name"), LACKING)
def test_a_component_fits_to_every_overlay_that_lacks_it(base, name, routes, tmp_path):
    assert faults(with_components(tmp_path, base, [name]), routes) == []


def test_everything_fits_together(everything, routes):
    assert faults(everything, routes) == []


# kind, name, path, what is written there instead, what the check says of it
BREAKS = [
    ("Deployment", "beamline", f"{SERVES}.readinessProbe.httpGet.path", "/ready", "is no route"),
    ("Deployment", "beamline", f"{SERVES}.livenessProbe.httpGet.path", "/healthz", "is no route"),
    ("Deployment", "beamline", f"{SERVES}.startupProbe.httpGet.port", "web", "startupProbe asks"),
    ("Deployment", PICKER, f"{SERVES}.livenessProbe.grpc.port", 9000, "livenessProbe asks"),
    ("Deployment", "beamline-redis", f"{SERVES}.livenessProbe.tcpSocket.port", 1, "asks port 1"),
    ("Deployment", "beamline", f"{SERVES}.ports.0.containerPort", 8080, "listens on 0.0.0.0:8000"),
    (
        "Deployment",
        "beamline",
        f"{SERVES}.ports.0.name",
        "web",
        "Service beamline: beamline has no port http",
    ),
    ("Service", "beamline", "spec.ports.0.targetPort", 8001, "has no port 8001"),
    ("Service", "beamline", "spec.ports.0.name", "web", "the Service beamline has no port http"),
    ("Service", "beamline", "spec.selector", {"app": "beamline"}, "selects nobody"),
    ("Service", "beamline", "metadata.labels", {}, "does not find one Service"),
    ("Service", PICKER, "spec.ports.0.port", 9001, "has no port 9002"),
    ("ServiceMonitor", "beamline", "spec.endpoints.0.path", "/metric", "/metric is no route"),
    ("ServiceMonitor", "beamline", "spec.endpoints.0.port", "metrics", "has no port metrics"),
    ("PodDisruptionBudget", "beamline", "spec.selector.matchLabels", {"a": "b"}, "selects nobody"),
    ("InferencePool", "beamline", "spec.targetPorts.0.number", 80, "no port 80"),
    ("InferencePool", "beamline", "spec.endpointPickerRef.name", "picker", "has no port 9002"),
    ("HTTPRoute", "beamline", "spec.rules.0.backendRefs.0.name", "pool", "no InferencePool pool"),
    ("HTTPRoute", "beamline", "spec.rules.0.timeouts.request", "60s", "cuts requests"),
    ("NetworkPolicy", "beamline", "spec.ingress.0.ports.0.port", "web", "no port web"),
    ("NetworkPolicy", "beamline-to-redis", "spec.egress.0.ports.0.port", 6381, "no port 6381"),
    ("NetworkPolicy", "beamline-redis", "spec.podSelector.matchLabels", {"a": "b"}, "nobody"),
    ("Deployment", "beamline", "spec.selector.matchLabels", {"a": "b"}, "selects nobody"),
    (
        *("Deployment", "beamline", f"{POD}.topologySpreadConstraints.0.labelSelector.matchLabels"),
        *({"app.kubernetes.io/part-of": "beamline"}, "spread: selects"),
    ),
    ("Deployment", "beamline", f"{POD}.serviceAccountName", "default", "no ServiceAccount"),
    ("Deployment", "beamline", f"{SERVES}.envFrom.0.configMapRef.name", "settings", "no ConfigMap"),
    ("Deployment", PICKER, f"{POD}.volumes.0.configMap.name", "config", "no ConfigMap config"),
    (
        "Deployment",
        "beamline",
        f"{POD}.volumes.cache.persistentVolumeClaim.claimName",
        "c",
        "Claim c",
    ),
    ("Deployment", "beamline", f"{POD}.volumes.keys.secret.secretName", "keys", "no Secret keys"),
    (
        "Deployment",
        "beamline",
        f"{POD}.volumes.keys.secret.secretName",
        "beamline-hub-token",
        "has no",
    ),
    ("Deployment", "beamline", f"{POD}.volumes.keys.secret.optional", True, "without its keys"),
    ("Deployment", "beamline", f"{POD}.volumes.tmp.name", "temporary", "there is no volume tmp"),
    (
        "Deployment",
        "beamline",
        f"{SERVES}.volumeMounts.tmp.mountPath",
        "/temporary",
        "may write to",
    ),
    ("Deployment", "beamline", f"{SERVES}.volumeMounts.keys.mountPath", "/keys", "is mounted at"),
    ("Deployment", "beamline", f"{SERVES}.volumeMounts.keys.subPath", "keys.json", "would keep"),
    ("Deployment", "beamline", f"{SERVES}.env.HOME.value", "/home", "its home"),
    ("Deployment", "beamline", f"{SERVES}.env.HOME.name", "BEAMLINE_HOM", "is not a setting"),
    ("Deployment", "beamline", f"{POD}.terminationGracePeriodSeconds", 120, "is killed"),
    ("Deployment", "beamline", f"{SERVES}.lifecycle.preStop.sleep.seconds", 90, "is killed"),
    ("Deployment", "beamline", f"{SERVES}.lifecycle.preStop.sleep.seconds", 1, "endpoints may"),
    ("Deployment", "beamline", f"{SERVES}.livenessProbe.failureThreshold", 1, "hasty"),
    ("Deployment", "beamline", "spec.progressDeadlineSeconds", 600, "a rollout waits less"),
    ("Deployment", "beamline", "spec.replicas", 3, "undoes"),
    ("ScaledObject", "beamline", "spec.scaleTargetRef.name", "beamlines", "which there is not"),
    ("Deployment", "beamline", f"{SERVES}.securityContext.readOnlyRootFilesystem", False, "rights"),
    ("Deployment", "beamline", f"{SERVES}.securityContext.capabilities", {}, "rights"),
    ("Deployment", "beamline", f"{POD}.securityContext.runAsUser", 0, "rights"),
    ("Deployment", PICKER, f"{POD}.securityContext.seccompProfile", None, "rights"),
    ("Deployment", "beamline", f"{POD}.enableServiceLinks", True, "variables of Services"),
    ("Deployment", "beamline", f"{POD}.automountServiceAccountToken", True, "a token"),
    ("Deployment", "beamline", f"{POD}.initContainers.0.resources", {}, "no limits"),
    ("RoleBinding", PICKER, "roleRef.name", "picker", "no Role picker"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_PORT", "9000", "listens on 0.0.0.0:9000"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_MAX_ROW", "9", "did you mean"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_GRACE_SECONDS", "600", "is killed"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_MAX_TIMEOUT_SECONDS", "600", "longer than"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_MAX_TIMEOUT_SECONDS", "", "longer than"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_CACHE_FOLDER", "/cache", "write to /cache"),
    ("ConfigMap", "beamline-settings", "data.BEAMLINE_KEYS_FILE", "/etc/beamline/keys/k", "has no"),
]


def write(resource: dict, path: str, value: object) -> None:
    """Puts a value at a path; a step into a list is an index, or the `name` of one in it."""
    *steps, last = path.split(".")
    inner = resource
    for step in steps:
        if isinstance(inner, dict):
            inner = inner[step]
        elif step.isdecimal():
            inner = inner[int(step)]
        else:
            (inner,) = [each for each in inner if each["name"] == step]
    inner[last] = value


@pytest.mark.parametrize(("kind", "name", "path", "value", "said"), BREAKS)
def test_a_break_is_found(kind, name, path, value, said, everything, routes):
    broken = copy.deepcopy(everything)
    (resource,) = [
        each
        for each in broken
        if (each["kind"], GENERATED.sub(r"\1", each["metadata"]["name"])) == (kind, name)
    ]
    write(resource, path, value)
    found = faults(broken, routes)
    assert any(said in fault for fault in found), found


def test_what_is_missing_is_found(everything, routes):
    for kind in ("ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "Service", "Role"):
        rest = [each for each in everything if each["kind"] != kind]
        assert faults(rest, routes), kind


def test_a_second_autoscaler_is_found(everything, routes):
    (autoscaler,) = Manifests(list(overlay("cpu"))).of_kind("HorizontalPodAutoscaler")
    assert any("fight" in fault for fault in faults([*everything, autoscaler], routes))


def test_a_service_without_keys_is_found(everything, routes):
    broken = copy.deepcopy(everything)
    for each in broken:
        if each["kind"] == "ConfigMap" and "BEAMLINE_KEYS_FILE" in each["data"]:
            del each["data"]["BEAMLINE_KEYS_FILE"], each["data"]["BEAMLINE_RATE_LIMIT_REDIS"]
    assert any("open to everybody" in fault for fault in faults(broken, routes))


def test_the_guide_says_what_goes_into_each_secret():
    assert SECRETS == {"beamline-keys": "keys.json", "beamline-hub-token": "HF_TOKEN"}
