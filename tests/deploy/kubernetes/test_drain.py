"""A pod's end with its manifest's settings: nothing that was accepted fails.

The test begins with the signal, when preStop has slept and no Service names the pod any more; who
asks all the same stands for a gateway that has not heard of it. That Kubernetes waits long enough
is arithmetic of the manifests, in consistency.py.
"""

import json
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deploy.kubernetes.rendering import (
    container_of,
    overlay,
    settings_of,
)
from tests.e2e.conftest import ServerProcess, beamline, server_environment

NUM_EACH = 6  # streams, and whole answers; together more than the rows of a step
NUM_KNOCKING = 4
BODY = {"text": "The sea", "strategy": "sample", "min_new_tokens": 400, "max_new_tokens": 400}
# The pod's own; the rest of its settings is taken as it is.
ELSEWHERE = ("BEAMLINE_HOST", "BEAMLINE_PORT", "BEAMLINE_CACHE_FOLDER", "BEAMLINE_KEYS_FILE")


@pytest.fixture
def server(model_folder, tmp_path):
    """`beamline serve` with the settings of the CPU overlay, but an address and a model here."""
    settings = dict(settings_of(overlay("cpu")))
    for each in ELSEWHERE:
        settings.pop(each)
    settings |= {
        "BEAMLINE_LOG_FORMAT": "text",  # whose line says where it listens
        "BEAMLINE_CACHE_FOLDER": str(tmp_path),
        "BEAMLINE_MODEL": str(model_folder),
        "BEAMLINE_RUNTIME": "torch",
        "BEAMLINE_MAX_ROWS": "8",
        "BEAMLINE_PORT": "0",
    }
    arguments = container_of(overlay("cpu"))["args"]
    process = ServerProcess(beamline(*arguments), server_environment(**settings))
    yield process
    process.close()


def last_event(url: str, seed: int, begun: threading.Semaphore) -> dict:
    """The end of a stream, once it has all come."""
    data = {}
    with (
        httpx.Client(base_url=url, timeout=240) as client,
        client.stream("POST", "/generate/stream", json=BODY | {"seed": seed}) as response,
    ):
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data:"):
                if not data:
                    begun.release()
                data = json.loads(line.removeprefix("data:"))
    return data


def whole_answer(url: str, seed: int) -> httpx.Response:
    return httpx.post(url + "/generate", json=BODY | {"seed": seed}, timeout=240)


def knock(url: str, is_draining: threading.Event, *, keeps_connection: bool) -> Counter:
    """Ask for something new, from the signal until nobody listens.

    A gateway asks on a connection that it had before, another client on a new one.
    """
    outcomes = Counter()
    limits = httpx.Limits(max_keepalive_connections=1 if keeps_connection else 0)
    with httpx.Client(base_url=url, timeout=60, limits=limits) as client:
        client.get("/readyz")  # makes the connection
        is_draining.wait()
        while True:
            try:
                response = client.post("/generate", json=BODY)
            except httpx.TransportError:  # perhaps in the very moment in which the socket closed
                with pytest.raises(httpx.ConnectError):
                    httpx.get(url + "/livez")
                return outcomes
            count(response, outcomes)


def count(response: httpx.Response, outcomes: Counter) -> None:
    """Note what came; a refusal says when to come again, and not to this pod."""
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) > 0
        assert response.headers["connection"] == "close"
    outcomes[response.status_code] += 1


def wait_for_load(url: str, num_requests: int) -> None:
    """Until the engine has all of them, running or waiting."""
    pause = threading.Event()
    while True:
        lines = httpx.get(url + "/metrics").text.splitlines()
        gauges = dict(line.split() for line in lines if line.startswith(("running_", "waiting_")))
        counts = [float(gauges[name]) for name in ("running_requests", "waiting_requests")]
        if sum(counts) == num_requests and counts[1] > 0:
            return
        pause.wait(0.01)


def probed_after_signal(url: str) -> list[int]:
    """Readiness once it has changed, then liveness and startup."""
    pause = threading.Event()
    while (ready := httpx.get(url + "/readyz")).status_code == 200:
        pause.wait(0.01)
    rest = [httpx.get(url + path).status_code for path in ("/livez", "/startupz")]
    return [ready.status_code, *rest]


def test_sigterm_under_load_fails_nothing_that_was_accepted(server):
    url = server.ready_url()
    begun, is_draining = threading.Semaphore(0), threading.Event()
    with ThreadPoolExecutor(2 * NUM_EACH + NUM_KNOCKING) as threads:
        streams = [threads.submit(last_event, url, seed, begun) for seed in range(NUM_EACH)]
        for _ in streams:
            begun.acquire()
        seeds = range(NUM_EACH, 2 * NUM_EACH)
        answers = [threads.submit(whole_answer, url, seed) for seed in seeds]
        knocking = [
            threads.submit(knock, url, is_draining, keeps_connection=number % 2 == 0)
            for number in range(NUM_KNOCKING)
        ]
        try:
            wait_for_load(url, 2 * NUM_EACH)
            server.signal(signal.SIGTERM)
            assert probed_after_signal(url) == [503, 200, 200]
        finally:
            is_draining.set()  # or those who knock would wait for ever
        ends = [each.result() for each in streams]
        whole = [each.result() for each in answers]
        outcomes = sum((each.result() for each in knocking), Counter())
    assert [each.get("error") for each in ends] == [None] * NUM_EACH
    assert {each["output_length"] - each["input_length"] for each in ends} == {400}
    assert [each.status_code for each in whole] == [200] * NUM_EACH
    assert {each.json()["finish_reason"] for each in whole} == {"length"}
    assert outcomes.keys() == {503}
    # `wait` fails unless it ends; within the grace time, or generations would have been cut.
    assert server.wait() == 0
    assert "grace time is over" not in server.output
    assert "Traceback" not in server.output
