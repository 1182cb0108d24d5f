"""Each selector means one workload, or pods of others on purpose; policies come in pairs."""

from collections.abc import Iterator

import pytest

from tests.deploy.kubernetes.rendering import (
    named,
    of_kind,
    overlay,
    pod_of,
    with_components,
)

NAME = "app.kubernetes.io/name"


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The production overlay with what it leaves out."""
    return with_components(tmp_path_factory.mktemp("all"), "production", ["gateway", "keda"])


@pytest.fixture(scope="module")
def selected(everything):
    """Names of the workloads whose pods a selector finds."""
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in of_kind(everything, "Deployment")
    }

    def select(labels: dict[str, str]) -> set[str]:
        return {name for name, has in pods.items() if labels.items() <= has.items()}

    return select


def rules(policy: dict) -> Iterator[tuple[str, dict]]:
    """Each direction that a policy opens, and one of its peers."""
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, []):
            for peer in rule.get(side, []):
                yield direction, peer


def test_deployments_and_services_find_their_own_pods(everything, selected):
    for each in of_kind(everything, "Deployment"):
        assert selected(each["spec"]["selector"]["matchLabels"]) == {each["metadata"]["name"]}
    for each in of_kind(everything, "Service"):
        assert selected(each["spec"]["selector"]) == {each["metadata"]["name"]}


def test_budget_pool_and_spread_mean_the_pods_that_serve(everything, selected):
    for kind in ("PodDisruptionBudget", "InferencePool"):
        selector = named(everything, kind)["spec"]["selector"]
        assert selected(selector["matchLabels"]) == {"beamline"}
    constraints = pod_of(everything)["topologySpreadConstraints"]
    assert {each["topologyKey"].rpartition("/")[2] for each in constraints} == {"zone", "hostname"}
    for each in constraints:
        assert selected(each["labelSelector"]["matchLabels"]) == {"beamline"}


def test_the_monitor_finds_the_service_that_serves_and_no_other(everything):
    wanted = named(everything, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    services = {
        e["metadata"]["name"]: e["metadata"]["labels"] for e in of_kind(everything, "Service")
    }
    assert [name for name, has in services.items() if wanted <= has.items()] == ["beamline"]


@pytest.mark.parametrize("name", ["cpu", "dev", "gpu", "production"])
def test_everything_is_closed_that_no_policy_opens(name):
    policy = named(overlay(name), "NetworkPolicy", "default-deny")["spec"]
    assert policy.keys() == {"podSelector", "policyTypes"}
    assert policy["podSelector"] == {}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}


def test_each_other_policy_is_one_workloads(everything, selected):
    for policy in of_kind(everything, "NetworkPolicy"):
        if policy["metadata"]["name"] != "default-deny":
            assert len(selected(policy["spec"]["podSelector"]["matchLabels"])) == 1
            assert policy["spec"]["policyTypes"]


def test_peers_of_policies_exist_here_or_are_the_clusters_dns(everything, selected):
    for policy in of_kind(everything, "NetworkPolicy"):
        for _, peer in rules(policy):
            pods = peer.get("podSelector")
            if pods is not None and "namespaceSelector" in peer:
                # Of another namespace: its pods know none of our labels.
                assert pods == {"matchLabels": {"k8s-app": "kube-dns"}}
            elif pods is not None:
                assert len(selected(pods["matchLabels"])) == 1


@pytest.mark.parametrize(
    ("client", "server"), [("beamline", "beamline-redis"), ("beamline-picker", "beamline")]
)
def test_who_needs_a_server_may_go_there_and_is_let_in(everything, client, server):
    opened = set()
    for policy in of_kind(everything, "NetworkPolicy"):
        own = policy["spec"]["podSelector"].get("matchLabels", {}).get(NAME)
        for direction, peer in rules(policy):
            other = peer.get("podSelector", {}).get("matchLabels", {}).get(NAME)
            opened.add((direction, own, other))
    assert ("egress", client, server) in opened
    assert ("ingress", server, client) in opened
