"""What the service makes of its manifests: settings, keys, times and rights.

A part of consistency.py, which says what the whole is for. Settings are loaded by the service's
own code, with the variables that a container gets.
"""

import os
from collections.abc import Iterator, Mapping
from unittest.mock import patch

from app.lifespan import CLOSE_SECONDS
from app.process.server import FLUSH_SECONDS
from app.settings import Settings, SettingsError, load_settings
from tests.deploy.kubernetes.manifests import Manifests
from tests.deploy.kubernetes.rendering import Resource

OURS = ("beamline", "fetch-model")  # containers of our image
WRITABLE = {"/tmp", "/var/cache/beamline"}  # as docs/containers.md says
SPARE_SECONDS = 5  # the kubelet's own work, and a loaded node
# After the last generation: answers are written, the engine closes, then what observes it.
CLOSING_SECONDS = FLUSH_SECONDS + 2 * CLOSE_SECONDS + SPARE_SECONDS


def faults(manifests: Manifests, secrets: Mapping[str, str]) -> Iterator[str]:
    """What would not run, or not end, as it should; `secrets` have one file or variable each."""
    for name, pod, container in manifests.containers():
        yield from _rights(name, pod, container)
        if container["name"] not in OURS:
            continue
        try:
            settings = settings_of(manifests, container)
        except SettingsError as error:
            yield f"{name}: {error}"
            continue
        yield from _places(name, manifests.environment(container), container, settings)
        if container["name"] == "beamline":
            yield from _keys(name, pod, container, settings, secrets)
            yield from _times(name, pod, container, settings)
            yield from _routes(manifests, settings)
    yield from _rollouts(manifests)


def settings_of(manifests: Manifests, container: Resource) -> Settings:
    """What the service makes of a container's variables.

    Raises:
        SettingsError: it refuses them.
    """
    kept = {name: value for name, value in os.environ.items() if "BEAMLINE" not in name}
    with patch.dict(os.environ, kept | manifests.environment(container), clear=True):
        return load_settings()


def _places(
    name: str, variables: dict[str, str], container: Resource, settings: Settings
) -> Iterator[str]:
    mounts = container["volumeMounts"]
    written = {each["mountPath"] for each in mounts if not each.get("readOnly")}
    if written != WRITABLE:
        yield f"{name}: may write to {sorted(written)}"
    if str(settings.cache_folder) not in written:
        yield f"{name}: cannot write to {settings.cache_folder}"
    if not variables["HF_HOME"].startswith(f"{settings.cache_folder}/"):
        yield f"{name}: downloads go to {variables['HF_HOME']}"
    if variables.get("HOME") not in written:
        yield f"{name}: cannot write to its home"
    ports = {each["containerPort"] for each in container.get("ports", [])}
    if container["name"] == "beamline" and (ports, settings.host) != ({settings.port}, "0.0.0.0"):
        yield f"{name}: listens on {settings.host}:{settings.port} and says {ports}"


def _keys(
    name: str, pod: Resource, container: Resource, settings: Settings, secrets: Mapping[str, str]
) -> Iterator[str]:
    if not settings.has_keys:
        yield f"{name}: is open to everybody"
    if settings.keys_file is None:
        return
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    secret = volumes.get(mounts.get(str(settings.keys_file.parent), ""))
    if secret is None:
        yield f"{name}: no Secret is mounted at {settings.keys_file.parent}"
    elif secrets.get(secret["secretName"]) != settings.keys_file.name:
        yield f"{name}: the Secret {secret['secretName']} has no {settings.keys_file.name}"
    elif secret.get("optional"):
        yield f"{name}: starts without its keys"


def _times(name: str, pod: Resource, container: Resource, settings: Settings) -> Iterator[str]:
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    if waits < 5:
        yield f"{name}: endpoints may be left when it refuses what is new"
    total = waits + settings.grace_seconds + CLOSING_SECONDS
    if total > pod["terminationGracePeriodSeconds"]:
        yield f"{name}: is killed before it has ended"
    longest = settings.max_timeout_seconds
    if longest is None or longest > settings.grace_seconds:
        yield f"{name}: a request may take longer than it is waited for"
    live = container["livenessProbe"]
    if live["periodSeconds"] * live["failureThreshold"] < 30:
        yield f"{name}: liveness is hasty"


def _routes(manifests: Manifests, settings: Settings) -> Iterator[str]:
    for route in manifests.of_kind("HTTPRoute"):
        who = f"HTTPRoute {route['metadata']['name']}"
        for rule in route["spec"]["rules"]:
            seconds = float(rule["timeouts"]["request"].removesuffix("s"))
            if seconds <= (settings.max_timeout_seconds or 0):
                yield f"{who}: cuts requests"
            for backend in rule["backendRefs"]:
                if backend["name"] not in manifests.names(backend["kind"]):
                    yield f"{who}: there is no {backend['kind']} {backend['name']}"


def _rollouts(manifests: Manifests) -> Iterator[str]:
    for deployment in manifests.of_kind("Deployment"):
        spec = deployment["spec"]
        for container in spec["template"]["spec"]["containers"]:
            probe = container.get("startupProbe")
            if probe is None:
                continue
            if (
                probe["periodSeconds"] * probe["failureThreshold"]
                >= spec["progressDeadlineSeconds"]
            ):
                yield f"{container['name']}: a rollout waits less than a start may take"


def _rights(name: str, pod: Resource, container: Resource) -> Iterator[str]:
    context, own = pod["securityContext"], container.get("securityContext", {})
    wanted = [
        (context.get("runAsNonRoot"), True),
        (context.get("runAsUser", 10_000) >= 10_000, True),
        (context.get("seccompProfile"), {"type": "RuntimeDefault"}),
        (own.get("allowPrivilegeEscalation"), False),
        (own.get("readOnlyRootFilesystem"), True),
        (own.get("capabilities"), {"drop": ["ALL"]}),
    ]
    if any(given != right for given, right in wanted):
        yield f"{name}: has more rights than it needs"
    # A Service named beamline-... would set BEAMLINE_ variables that are refused.
    if pod.get("enableServiceLinks") is not False:
        yield f"{name}: gets variables of Services"
    if pod.get("automountServiceAccountToken") is not name.startswith("beamline-picker/"):
        yield f"{name}: has a token that it does not need, or none"
    if not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys():
        yield f"{name}: has no limits"
