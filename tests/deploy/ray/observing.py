"""What tests of real clusters look at: metrics by replica, and things that come about."""

import time
from collections.abc import Callable, Iterator

import httpx
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 400.0  # Ray takes its time on a loaded machine
PROMPT = "The sea is wide and the ships are small."
BODY = {"text": PROMPT, "max_new_tokens": 6, "seed": 3, "cache": False}


def metric_by_replica(client: httpx.Client, name: str, **labels: str) -> dict[str, float]:
    """A series of each replica that answers: that with these labels besides."""
    page = client.get("/metrics")
    families = text_string_to_metric_families(page.text if page.status_code == 200 else "")
    samples = [each for family in families for each in family.samples if each.name == name]
    return {
        each.labels["replica"]: each.value
        for each in samples
        if labels.items() <= each.labels.items()
    }


def replicas(client: httpx.Client) -> set[str]:
    """The names of those that answer."""
    return set(metric_by_replica(client, "waiting_requests"))


def wait_until(condition: Callable[[], object]) -> None:
    """Ask again until it holds; each condition here asks a server or the system."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"


def gated(file: object) -> dict[str, object]:
    """A request that goes on until a file is there."""
    return {
        "text": PROMPT,
        "strategy": "gated",
        "file": str(file),
        "max_new_tokens": 60_000,
        "cache": False,
    }


def last_event(lines: Iterator[str]) -> str:
    """The name of the event that ends a stream of ours."""
    return [line for line in lines if line.startswith("event: ")][-1].removeprefix("event: ")
