"""Renders k8s/chart with the real helm, and makes its output comparable with Kustomize's."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import yaml

from tests.deploy.kubernetes.rendering import GENERATED, ROOT, Resource

HELM = ROOT / ".tools" / "helm"
CHART = ROOT / "k8s" / "chart"
PRESETS = CHART / "presets"
PRESET_NAMES = tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))

# Values that leave the presets, each for what it is there for.
VARIANTS = {
    "everything": {
        "model": {"source": "org/model", "revision": 40 * "0", "volume": {"storageClass": "fast"}},
        "image": {"repository": "registry.example/beamline", "pullSecrets": ["registry"]},
        "autoscaling": {"kind": "keda"},
        "redis": {"enabled": True},
        "monitoring": {"enabled": True},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "beamline.example",
            "tlsSecret": "beamline-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "150"},
        },
        "podLabels": {"team": "search"},
        "podAnnotations": {"example/owner": "search"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "service": {"type": "LoadBalancer", "port": 8080},
        "settings": {"BEAMLINE_MAX_ROWS": 32, "BEAMLINE_CACHE_REDIS_TIMEOUT_SECONDS": 0.1},
    },
    "openshift": {"user": None, "redis": {"enabled": True}},
    "without-policies": {"networkPolicy": False, "podDisruptionBudget": False},
    "long-requests": {"drainSeconds": 1800, "startupSeconds": 3600, "preStopSeconds": 20},
    "three-of-them": {"autoscaling": {"kind": "none"}, "replicas": 3},
}

# What charts put on every object and Kustomize on some. Only Services are found by theirs, and
# consistency.py looks whether they are.
HELM_LABELS = {
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HELM, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def chart(
    *presets: str,
    values: dict | None = None,
    release: str = "beamline",
    source: Path = CHART,
) -> list[Resource]:
    """What `helm install` would send, with these presets and then these values."""
    flags = [part for each in presets for part in ("--values", PRESETS / f"{each}.yaml")]
    flags += [f"--set-json={name}={json.dumps(value)}" for name, value in (values or {}).items()]
    done = helm("template", release, source, "--namespace", "beamline", *flags)
    assert done.returncode == 0, done.stderr
    rendered = yaml.load_all(done.stdout, yaml.CSafeLoader)
    return [each for each in rendered if each is not None]


def comparable(resources: Iterable[Resource]) -> dict[tuple[str, str], Resource]:
    """Objects by kind and name, without what is Helm's or Kustomize's own way of saying the same.

    The release's labels, hashes in names and sums in annotations roll pods or tell releases apart;
    namespaces are the command's; the order of what has names means nothing.
    """
    found = {}
    for resource in resources:
        each = _plain(resource)
        metadata = each["metadata"]
        metadata.pop("namespace", None)
        own = metadata.get("labels", {}).items()
        metadata["labels"] = {name: value for name, value in own if name not in HELM_LABELS}
        if each["kind"] == "Deployment":
            annotations = each["spec"]["template"]["metadata"].get("annotations", {})
            annotations.pop("checksum/settings", None)
            if each["spec"].get("replicas") == 1:  # what Kubernetes takes if nothing is said
                del each["spec"]["replicas"]
        found[each["kind"], metadata["name"]] = each
    return found


def _plain(value: object) -> object:
    if isinstance(value, dict):
        kept = value.keys() - {"app.kubernetes.io/instance"}
        return {name: _plain(value[name]) for name in kept}
    if isinstance(value, list):
        made = [_plain(each) for each in value]
        has_names = all(isinstance(each, dict) for each in made)
        return sorted(made, key=lambda e: json.dumps(e, sort_keys=True)) if has_names else made
    return GENERATED.sub(r"\1", value) if isinstance(value, str) else value
