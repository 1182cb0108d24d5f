"""What has to fit together in manifests that are applied together, and which no schema sees.

`faults` names what does not: here references to nothing, volumes without a mount, selectors that
find nobody and autoscalers that fight; what is listened on and asked for in listening.py, what the
service makes of it all in running.py. Kustomize's output and the chart's are held to it alike, and
test_consistency.py breaks manifests on purpose. Fields are checked by schemas.py.
"""

import re
from collections.abc import Iterator

from tests.deploy.kubernetes import listening, running
from tests.deploy.kubernetes.manifests import Manifests
from tests.deploy.kubernetes.rendering import ROOT, Resource

SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
SOURCES = (  # of volumes, then of variables; the kind; its name there
    ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
    ("configMap", "ConfigMap", "name"),
    ("secret", "Secret", "secretName"),
    ("configMapRef", "ConfigMap", "name"),
    ("secretRef", "Secret", "name"),
)
# Secrets that the guide has its reader make, and what it puts into each.
SECRETS = dict(
    re.findall(
        r"create secret generic (\S+) --from-(?:file|literal)=([\w.]+)",
        (ROOT / "docs" / "kubernetes.md").read_text(),
    )
)


def faults(resources: list[Resource], routes: set[str]) -> list[str]:
    """What does not fit; `routes` are the paths that the service answers to GET."""
    manifests = Manifests(list(resources))
    found = [
        *_references(manifests),
        *_volumes(manifests),
        *_selectors(manifests),
        *_scalers(manifests),
        *listening.faults(manifests, routes),
        *running.faults(manifests, SECRETS),
    ]
    return list(dict.fromkeys(found))


def _references(manifests: Manifests) -> Iterator[str]:
    for name, kind, wanted in _referred(manifests):
        known = manifests.names(kind)
        if kind == "Secret":
            known |= SECRETS.keys()
        if wanted not in known:
            yield f"{name}: there is no {kind} {wanted}"


def _referred(manifests: Manifests) -> Iterator[tuple[str, str, str]]:
    """Who names what: a name to say, and the kind and name of what is meant."""
    for name, template in manifests.pods():
        pod = template["spec"]
        if "serviceAccountName" in pod:
            yield name, "ServiceAccount", pod["serviceAccountName"]
        yield from _sources(name, pod.get("volumes", []))
    for name, _, container in manifests.containers():
        yield from _sources(name, container.get("envFrom", []))
    for binding in manifests.of_kind("RoleBinding"):
        for each in (*binding["subjects"], binding["roleRef"]):
            yield f"RoleBinding {binding['metadata']['name']}", each["kind"], each["name"]


def _sources(name: str, given: list[Resource]) -> Iterator[tuple[str, str, str]]:
    """What volumes or variables come from."""
    for each in given:
        for source, kind, key in SOURCES:
            if source in each:
                yield name, kind, each[source][key]


def _volumes(manifests: Manifests) -> Iterator[str]:
    for name, template in manifests.pods():
        pod = template["spec"]
        volumes = {each["name"] for each in pod.get("volumes", [])}
        containers = pod.get("initContainers", []) + pod["containers"]
        mounts = [each for one in containers for each in one.get("volumeMounts", [])]
        mounted = {each["name"] for each in mounts}
        yield from (f"{name}: there is no volume {each}" for each in mounted - volumes)
        yield from (f"{name}: nothing mounts the volume {each}" for each in volumes - mounted)
        for each in mounts:
            if "subPath" in each:
                yield f"{name}: {each['mountPath']} would keep what it once was"


def _selectors(manifests: Manifests) -> Iterator[str]:
    for who, labels, wanted in _selections(manifests):
        found = manifests.selected(labels)
        if len(found) != 1 or wanted not in (None, *found):
            yield f"{who}: selects {found or 'nobody'}"
    for monitor in manifests.of_kind("ServiceMonitor"):
        if len(manifests.monitored(monitor)) != 1:
            yield f"ServiceMonitor {monitor['metadata']['name']}: does not find one Service"


def _selections(manifests: Manifests) -> Iterator[tuple[str, dict[str, str], str | None]]:
    """Who selects pods by which labels, and the workload that must be meant, if it is said."""
    for each in manifests.of_kind("Deployment"):
        name, spec = each["metadata"]["name"], each["spec"]
        yield f"Deployment {name}", spec["selector"]["matchLabels"], name
        for constraint in spec["template"]["spec"].get("topologySpreadConstraints", []):
            yield f"{name}: spread", constraint["labelSelector"]["matchLabels"], name
    for each in manifests.of_kind("Service", "PodDisruptionBudget", "InferencePool"):
        selector = each["spec"]["selector"]
        who = f"{each['kind']} {each['metadata']['name']}"
        yield who, selector.get("matchLabels", selector), None
    for policy in manifests.of_kind("NetworkPolicy"):
        who, spec = f"NetworkPolicy {policy['metadata']['name']}", policy["spec"]
        rules = [rule.get("from", []) for rule in spec.get("ingress", [])]
        rules += [rule.get("to", []) for rule in spec.get("egress", [])]
        peers = [peer for rule in rules for peer in rule if "namespaceSelector" not in peer]
        selectors = [peer["podSelector"] for peer in peers if "podSelector" in peer]
        for selector in [spec["podSelector"], *selectors]:
            if selector != {}:  # all pods
                yield who, selector["matchLabels"], None


def _scalers(manifests: Manifests) -> Iterator[str]:
    targets = [each["spec"]["scaleTargetRef"]["name"] for each in manifests.of_kind(*SCALERS)]
    if len(targets) != len(set(targets)):
        yield f"two autoscalers fight over {targets}"
    for target in targets:
        found = manifests.named("Deployment", target)
        if not found:
            yield f"an autoscaler scales {target}, which there is not"
        elif "replicas" in found[0]["spec"]:
            yield f"{target}: `replicas` undoes the autoscaler's number"
