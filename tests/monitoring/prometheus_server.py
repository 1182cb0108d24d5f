"""A real Prometheus on the shipped configuration, and what a test asks of it over HTTP.

Only addresses and times are others: it scrapes one server, every second. What a test shortens is
of the rules' windows and patience, never an expression. Needs Debian's package `prometheus`.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path

import httpx
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring" / "rules"
BINARY = shutil.which("prometheus")
PATIENCE_SECONDS = 90.0  # generous: a loaded machine scrapes late
PENDING = "2s"  # instead of an alert's minutes
# Windows of rules, for tests that wait for alerts. Their order stays, and with it what is measured
# against what; a window that is not here is an error.
SHORTENED = {
    "[2m]": "[8s]",
    "[5m]": "[12s]",
    "[30m]": "[40s]",
    "[1h]": "[50s]",
    "[6h]": "[60s]",
    "offset 1h": "offset 20s",
}
AS_SHIPPED: Mapping[str, str] = {}
REPLACED = {  # in prometheus.yml, by what
    "scrape_interval: 15s": "scrape_interval: 1s",
    "scrape_timeout: 10s": "scrape_timeout: 1s",
    "evaluation_interval: 15s": "evaluation_interval: 1s",
}

DURATION = re.compile(r"\[\w+\]|offset \w+")

Targets = Mapping[str, dict[str, str]]  # addresses, with the labels that discovery gives them
Sample = tuple[dict[str, str], float]  # labels and value


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def wait_until(true: Callable[[], object], what: str) -> None:
    """Return once `true()` is; fail when that takes too long."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    while not true():
        assert time.monotonic() < deadline, f"in vain: {what}"
        pause.wait(0.2)


class PrometheusServer:
    """One that scrapes services and keeps all it needs in `folder`."""

    def __init__(
        self, folder: Path, targets: Targets, *, durations: Mapping[str, str] = AS_SHIPPED
    ) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._write_rules(durations)
        self._write_configuration(targets)
        self._client = httpx.Client(base_url=self.url, timeout=30.0)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(BINARY),
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, "Prometheus is ready")

    def close(self) -> None:
        """End it."""
        self._client.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def scrape(self, targets: Targets) -> None:
        """Scrape these from now on."""
        self._write_configuration(targets)
        self._process.send_signal(signal.SIGHUP)

    def query(self, query: str) -> list[Sample]:
        """Its answer now, without what is no number; fails on an invalid query."""
        answer = self._get("query", query=query)
        assert answer["resultType"] == "vector", query
        samples = [(each["metric"], float(each["value"][1])) for each in answer["result"]]
        return [(labels, value) for labels, value in samples if isfinite(value)]

    def value(self, query: str) -> float | None:
        """The one value of the answer; None if it is empty."""
        samples = self.query(query)
        assert len(samples) <= 1, samples
        return samples[0][1] if samples else None

    def now(self) -> float:
        """The time on its clock, for queries with `@`."""
        return self._get("query", query="time()")["result"][0]

    def growth(self, series: str, *, since: float, until: float) -> float:
        """By how much the sum of the series grew between two times on its clock."""
        ends = (self.value(f"sum({series} @ {moment})") or 0.0 for moment in (since, until))
        began, ended = ends
        return ended - began

    def label_values(self, label: str, of: str) -> list[str]:
        """As Grafana's `label_values(of, label)`."""
        return self._get(f"label/{label}/values", **{"match[]": of})

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def rules(self) -> list[dict]:
        """All rules, each with its health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def wait_for_scrapes(self, number: int) -> None:
        """Until so many more scrapes of the service have succeeded."""
        wanted = self._num_scrapes() + number
        wait_until(lambda: self._num_scrapes() >= wanted, f"{number} scrapes")

    def _num_scrapes(self) -> float:
        return self.value('sum(sum_over_time(up{job="beamline"}[1h]))') or 0.0

    def _get(self, path: str, **parameters: str):
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def _write_configuration(self, targets: Targets) -> None:
        entries = [{"targets": [address], "labels": of} for address, of in targets.items()]
        replaced = REPLACED | {
            "/etc/prometheus/rules/": f"{self._folder / 'rules'}/",
            '- targets: ["api:8000"]': "\n      ".join(f"- {json.dumps(each)}" for each in entries),
            "localhost:9090": f"127.0.0.1:{self._port}",
        }
        text = (ROOT / "prometheus.yml").read_text()
        for old, new in replaced.items():
            assert text.count(old) == 1, f"{old!r} is not in prometheus.yml, or twice"
            text = text.replace(old, new)
        (self._folder / "prometheus.yml").write_text(text)

    def _write_rules(self, durations: Mapping[str, str]) -> None:
        (self._folder / "rules").mkdir()
        for file in RULES.glob("*.yml"):
            content = yaml.safe_load(file.read_text())
            for rule in (rule for group in content["groups"] for rule in group["rules"]):
                if "for" in rule:
                    rule["for"] = PENDING
                if durations:
                    rule["expr"] = DURATION.sub(lambda found: durations[found[0]], rule["expr"])
            (self._folder / "rules" / file.name).write_text(yaml.safe_dump(content))
