"""Writes the rules of monitoring/rules as a PrometheusRule, as `make k8s-rules` asks.

Kustomize cannot put a file's content into a resource, so a copy is kept; a test says when it is
old.
"""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RULES = ROOT / "monitoring" / "rules"
TARGET = ROOT / "k8s" / "components" / "monitoring" / "prometheus-rule.yaml"
HEAD = "# Made of monitoring/rules by `make k8s-rules`; do not edit.\n"


def prometheus_rule(files: list[Path]) -> dict[str, object]:
    """The resource with the groups of all those files."""
    groups = [each for path in files for each in yaml.safe_load(path.read_text())["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "beamline",
            "namespace": "beamline",
            # As the ServiceMonitor's: what kube-prometheus-stack looks for.
            "labels": {"app.kubernetes.io/part-of": "beamline", "release": "prometheus"},
        },
        "spec": {"groups": groups},
    }


def rule_files(folder: Path = RULES) -> list[Path]:
    """Prometheus's own rule files, in the order of their names."""
    return sorted(folder.glob("*.yml"))


if __name__ == "__main__":
    resource = prometheus_rule(rule_files())
    text = yaml.safe_dump(resource, sort_keys=False, width=100, allow_unicode=True)
    TARGET.write_text(HEAD + text)
