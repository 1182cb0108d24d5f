"""The PrometheusRule is monitoring/rules, group for group."""

import runpy

import yaml

from tests.deploy.kubernetes.rendering import ROOT, named, overlay

WRITER = runpy.run_path(str(ROOT / "k8s" / "prometheus_rule.py"))


def test_the_kept_copy_is_not_old():
    files = WRITER["rule_files"]()
    assert files
    expected = WRITER["prometheus_rule"](files)
    assert yaml.safe_load(WRITER["TARGET"].read_text()) == expected, "run `make k8s-rules`"


def test_rules_come_with_the_monitoring():
    rule = named(overlay("production"), "PrometheusRule")
    monitor = named(overlay("production"), "ServiceMonitor")
    assert rule["spec"]["groups"]
    assert rule["metadata"]["labels"] == monitor["metadata"]["labels"]
