"""Rules and alerts: what promtool says of them, and that each alert leads somewhere."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring" / "rules"
TESTS = sorted((RULES / "tests").glob("*.yml"))
ALERTS = [
    rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian's package prometheus)"
)


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@needs_promtool
@pytest.mark.parametrize("name", ["alerts.yml", "recording.yml"])
def test_rules_are_valid(name):
    assert "SUCCESS" in promtool("check", "rules", RULES / name)


@needs_promtool
def test_configuration_is_valid():
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", ROOT / "prometheus.yml")


@needs_promtool
def test_configuration_that_the_page_shows_is_valid(tmp_path):
    page = (ROOT / "docs" / "monitoring.md").read_text()
    (shown,) = re.findall(r"```yaml\n# in prometheus.yml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(shown)
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yml")
    (job,) = yaml.safe_load(shown)["scrape_configs"]
    assert {f'job="{job["job_name"]}"'} == set(
        re.findall(r'\bjob=~?"[^"]*"', (RULES / "alerts.yml").read_text())
    )


@needs_promtool
@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_do_what_their_tests_say(file):
    assert "SUCCESS" in promtool("test", "rules", file)


def test_each_alert_is_tested_to_fire_and_to_end():
    """Every alert is expected once with an instance, and once with none."""
    fires, ends = set(), set()
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            for asked in test.get("alert_rule_test", ()):
                (fires if asked.get("exp_alerts") else ends).add(asked["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert names == fires
    assert names == ends


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_runbook(rule):
    file, anchor = rule["annotations"]["runbook_url"].split("#")
    headings = re.findall(r"^#+ (\w+)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()
