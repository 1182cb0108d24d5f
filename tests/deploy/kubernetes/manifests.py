"""Manifests that are applied together, as the checks of consistency.py look at them."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.deploy.kubernetes.rendering import Resource


@dataclass(frozen=True, slots=True)
class Manifests:
    """Manifests that are applied together."""

    resources: list[Resource]

    def of_kind(self, *kinds: str) -> list[Resource]:
        return [each for each in self.resources if each["kind"] in kinds]

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.of_kind(kind)}

    def named(self, kind: str, name: str) -> list[Resource]:
        return [each for each in self.of_kind(kind) if each["metadata"]["name"] == name]

    def pods(self) -> Iterator[tuple[str, Resource]]:
        """What each workload makes, with the workload's name."""
        for each in self.of_kind("Deployment"):
            yield each["metadata"]["name"], each["spec"]["template"]

    def containers(self) -> Iterator[tuple[str, Resource, Resource]]:
        """All containers, with their pods and a name to say."""
        for name, template in self.pods():
            pod = template["spec"]
            for container in pod.get("initContainers", []) + pod["containers"]:
                yield f"{name}/{container['name']}", pod, container

    def selected(self, labels: dict[str, str]) -> list[str]:
        """The workloads whose pods have these labels."""
        has = ((name, template["metadata"]["labels"]) for name, template in self.pods())
        return [name for name, own in has if labels.items() <= own.items()]

    def ports(self, workload: str) -> set[str | int]:
        """Names and numbers of what a workload's containers listen on."""
        (deployment,) = self.named("Deployment", workload)
        found: set[str | int] = set()
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            for port in container.get("ports", []):
                found |= {port["name"], port["containerPort"]}
        return found

    def monitored(self, monitor: Resource) -> list[Resource]:
        """The Services that a ServiceMonitor finds."""
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        services = self.of_kind("Service")
        return [each for each in services if wanted <= each["metadata"]["labels"].items()]

    def service_ports(self, name: str) -> set[str | int]:
        """Names and numbers of a Service's own ports; none if there is no such Service."""
        ports = [port for each in self.named("Service", name) for port in each["spec"]["ports"]]
        return {port[key] for port in ports for key in ("name", "port")}

    def environment(self, container: Resource) -> dict[str, str]:
        """The variables that a container gets of what is here."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                for each in self.named(kind, source.get(key, {}).get("name", "")):
                    found |= each["data"]
        return found | {each["name"]: each.get("value", "") for each in container.get("env", [])}
