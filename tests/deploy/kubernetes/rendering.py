"""Renders k8s/ with the real kubectl, and finds things in what comes out."""

import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
KUBECTL = ROOT / ".tools" / "kubectl"
OVERLAYS = ROOT / "k8s" / "overlays"
COMPONENTS = ROOT / "k8s" / "components"
OVERLAY_NAMES = tuple(sorted(path.name for path in OVERLAYS.iterdir()))
COMPONENT_NAMES = tuple(sorted(path.name for path in COMPONENTS.iterdir()))
# Names that Kustomize gives, which end with a hash of the content.
GENERATED = re.compile(r"(beamline-(?:settings|development-keys))-[a-z0-9]{10}")

Resource = dict  # a manifest


def kustomize(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # warnings about what is deprecated
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


@cache
def overlay(name: str) -> tuple[Resource, ...]:
    """An overlay as it stands in the repository."""
    return tuple(kustomize(OVERLAYS / name))


def with_components(folder: Path, base: str, components: Iterable[str]) -> list[Resource]:
    """An overlay with more components, as a kustomization of a user's own in `folder` says."""
    used = [(COMPONENTS / each).relative_to(ROOT) for each in components]
    up = Path(*[".."] * (len(folder.resolve().parts) - 1)) / ROOT.relative_to("/")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(up / "k8s" / "overlays" / base)],
        "components": [str(up / each) for each in used],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(folder)


def components_of(name: str) -> set[str]:
    """The components that an overlay has, those of overlays below it included."""
    written = yaml.safe_load((OVERLAYS / name / "kustomization.yaml").read_text())
    below = [each.removeprefix("../") for each in written["resources"]]
    inherited = [components_of(each) for each in below if each in OVERLAY_NAMES]
    own = {each.rpartition("/")[2] for each in written.get("components", [])}
    return own.union(*inherited)


def of_kind(resources: Iterable[Resource], kind: str) -> list[Resource]:
    return [each for each in resources if each["kind"] == kind]


def named(resources: Iterable[Resource], kind: str, name: str = "beamline") -> Resource:
    """The one of that kind with that name, without the hash of generated ones."""
    (found,) = [each for each in of_kind(resources, kind) if each["metadata"]["name"] == name]
    return found


def pod_of(resources: Iterable[Resource], name: str = "beamline") -> Resource:
    return named(resources, "Deployment", name)["spec"]["template"]["spec"]


def container_of(resources: Iterable[Resource]) -> Resource:
    """The container that serves."""
    (found,) = pod_of(resources)["containers"]
    return found


def settings_of(resources: Iterable[Resource]) -> dict[str, str]:
    """All variables of the service's ConfigMap."""
    (found,) = [
        each
        for each in of_kind(resources, "ConfigMap")
        if each["metadata"]["name"].startswith("beamline-settings-")
    ]
    return found["data"]
