"""Where pods go, and who may talk to whom: policies come in pairs."""

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


def rules(policy: dict) -> Iterator[tuple[str, dict]]:
    """Each direction that a policy opens, and one of its peers."""
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, []):
            for peer in rule.get(side, []):
                yield direction, peer


def test_pods_are_spread_over_zones_and_nodes(everything):
    constraints = pod_of(everything)["topologySpreadConstraints"]
    assert {each["topologyKey"].rpartition("/")[2] for each in constraints} == {"zone", "hostname"}


@pytest.mark.parametrize("name", ["cpu", "dev", "gpu", "production"])
def test_everything_is_closed_that_no_policy_opens(name):
    policy = named(overlay(name), "NetworkPolicy", "default-deny")["spec"]
    assert policy.keys() == {"podSelector", "policyTypes"}
    assert policy["podSelector"] == {}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}


def test_pods_of_other_namespaces_are_the_clusters_dns(everything):
    for policy in of_kind(everything, "NetworkPolicy"):
        for _, peer in rules(policy):
            if "podSelector" in peer and "namespaceSelector" in peer:
                assert peer["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}


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
