"""What the manifests' probes get of a real server: with Redis away, and with a full queue.

Readiness and liveness must hold there, or the cluster would take away what still serves.
"""

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deploy.kubernetes.listening import PROBES
from tests.deploy.kubernetes.rendering import container_of, overlay, settings_of
from tests.e2e.conftest import ServerProcess, beamline, server_environment

NUM_REQUESTS = 12
BODY = {"text": "The sea", "strategy": "sample", "min_new_tokens": 400, "max_new_tokens": 400}
KEY = "sk-for-the-tests-of-probes"
# The pod's own; the rest of its settings is taken as it is.
ELSEWHERE = ("BEAMLINE_KEYS_FILE", "BEAMLINE_REVISION")


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def server(model_folder, tmp_path, nobody):
    """`beamline serve` with the production overlay's settings; its Redis cannot be reached."""
    settings = {
        name: re.sub(r"beamline-redis:\d+", nobody, value)
        for name, value in settings_of(overlay("production")).items()
        if name not in ELSEWHERE
    }
    assert nobody in settings["BEAMLINE_RATE_LIMIT_REDIS"]
    assert nobody in settings["BEAMLINE_CACHE_REDIS"]
    settings |= {
        "BEAMLINE_API_KEYS": KEY,
        "BEAMLINE_REQUESTS_PER_MINUTE": "1000",
        "BEAMLINE_CACHE_FOLDER": str(tmp_path),
        "BEAMLINE_HOST": "127.0.0.1",
        "BEAMLINE_LOG_FORMAT": "text",  # whose line says where it listens
        "BEAMLINE_MAX_ROWS": "4",
        "BEAMLINE_MODEL": str(model_folder),
        "BEAMLINE_PORT": "0",
        "BEAMLINE_RUNTIME": "torch",
    }
    process = ServerProcess(beamline("serve"), server_environment(**settings))
    yield process
    process.close()


def probed(client: httpx.Client) -> dict[str, int]:
    """What each probe of the manifest gets. It brings no key."""
    container = container_of(overlay("production"))
    paths = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    return {probe: client.get(path).status_code for probe, path in paths.items()}


def test_a_pod_stays_while_redis_is_away_and_its_queue_is_long(server):
    url = server.ready_url()
    well = dict.fromkeys(PROBES, 200)
    headers = {"authorization": f"Bearer {KEY}"}
    with (
        httpx.Client(base_url=url, timeout=60) as client,
        httpx.Client(base_url=url, timeout=240, headers=headers) as asking,
        ThreadPoolExecutor(NUM_REQUESTS) as threads,
    ):
        assert probed(client) == well
        answers = [
            threads.submit(asking.post, "/generate", json=BODY | {"seed": seed})
            for seed in range(NUM_REQUESTS)
        ]
        wait_for_queue(client)
        assert probed(client) == well
        assert [each.result().status_code for each in answers] == [200] * NUM_REQUESTS
        assert probed(client) == well


def wait_for_queue(client: httpx.Client) -> None:
    """Until more is asked than a step computes."""
    pause = threading.Event()
    while "\nwaiting_requests 0.0\n" in client.get("/metrics").text:
        pause.wait(0.01)
