"""Whether anybody listens where something is sent: probes, Services, policies and gateways.

A part of consistency.py, which says what the whole is for.
"""

from collections.abc import Iterator

from tests.deploy.kubernetes.manifests import Manifests

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
Port = str | int  # a name or a number


def faults(manifests: Manifests, routes: set[str]) -> Iterator[str]:
    """What is asked for where nobody answers."""
    yield from _probes(manifests, routes)
    for who, workload, port in _asked_of_pods(manifests):
        if port not in manifests.ports(workload):
            yield f"{who}: {workload} has no port {port}"
    for who, service, port in _asked_of_services(manifests):
        if port not in manifests.service_ports(service):
            yield f"{who}: the Service {service} has no port {port}"
    for monitor in manifests.of_kind("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            if endpoint["path"] not in routes:
                name, path = monitor["metadata"]["name"], endpoint["path"]
                yield f"ServiceMonitor {name}: {path} is no route"


def _probes(manifests: Manifests, routes: set[str]) -> Iterator[str]:
    for name, _, container in manifests.containers():
        ports = container.get("ports", [])
        own = {each[key] for each in ports for key in ("name", "containerPort")}
        for probe in (each for each in PROBES if each in container):
            for kind in container[probe].keys() & {"httpGet", "tcpSocket", "grpc"}:
                asked = container[probe][kind]
                if asked["port"] not in own:
                    yield f"{name}: {probe} asks port {asked['port']}, which is not listened on"
                if kind == "httpGet" and asked["path"] not in routes:
                    yield f"{name}: {probe} asks {asked['path']}, which is no route"


def _asked_of_pods(manifests: Manifests) -> Iterator[tuple[str, str, Port]]:
    """Who sends something to which workload's pods, at which port."""
    for who, labels, ports in _asked_by_label(manifests):
        for workload in manifests.selected(labels):
            yield from ((who, workload, port) for port in ports)


def _asked_by_label(manifests: Manifests) -> Iterator[tuple[str, dict[str, str], list[Port]]]:
    for each in manifests.of_kind("Service"):
        spec = each["spec"]
        ports = [port["targetPort"] for port in spec["ports"]]
        yield f"Service {each['metadata']['name']}", spec["selector"], ports
    for each in manifests.of_kind("InferencePool"):
        spec = each["spec"]
        ports = [port["number"] for port in spec["targetPorts"]]
        yield f"InferencePool {each['metadata']['name']}", spec["selector"]["matchLabels"], ports
    for name, labels, rule in _policy_rules(manifests):
        yield f"NetworkPolicy {name}", labels, [port["port"] for port in rule.get("ports", [])]


def _policy_rules(manifests: Manifests) -> Iterator[tuple[str, dict[str, str], dict]]:
    """Rules of policies with the labels of those pods that are spoken to."""
    for policy in manifests.of_kind("NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        for rule in spec.get("ingress", []):
            yield name, spec["podSelector"]["matchLabels"], rule
        for rule in spec.get("egress", []):
            for peer in rule.get("to", []):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    yield name, peer["podSelector"]["matchLabels"], rule


def _asked_of_services(manifests: Manifests) -> Iterator[tuple[str, str, Port]]:
    """Who sends something to which Service, at which port."""
    for monitor in manifests.of_kind("ServiceMonitor"):
        for service in manifests.monitored(monitor):
            for endpoint in monitor["spec"]["endpoints"]:
                who = f"ServiceMonitor {monitor['metadata']['name']}"
                yield who, service["metadata"]["name"], endpoint["port"]
    for pool in manifests.of_kind("InferencePool"):
        picker = pool["spec"]["endpointPickerRef"]
        yield f"InferencePool {pool['metadata']['name']}", picker["name"], picker["port"]["number"]
    for ingress in manifests.of_kind("Ingress"):
        rules = ingress["spec"]["rules"]
        for path in (path for rule in rules for path in rule["http"]["paths"]):
            service = path["backend"]["service"]
            (port,) = service["port"].values()
            yield f"Ingress {ingress['metadata']['name']}", service["name"], port
