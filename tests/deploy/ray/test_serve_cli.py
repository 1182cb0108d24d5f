"""The commands of the README: Ray's own `serve` runs the file that lies in the checkout."""

import signal
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from tests.deploy.ray.conftest import ROOT, RayService, free_port
from tests.deploy.ray.observing import BODY, replicas, wait_until
from tests.e2e.conftest import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_serve_run_starts_what_the_file_says(place):
    config = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())
    config["http_options"]["port"] = free_port()
    file = place.folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    environment = place.environment | {
        "BEAMLINE_MODEL": str(place.model),
        "BEAMLINE_DEVICE": "cpu",
        "BEAMLINE_RUNTIME": "torch",
    }
    del environment["PYTHONPATH"]  # Ray's processes find the package as it is installed
    serve = str(Path(sys.executable).with_name("serve"))
    service = ServeCommand([serve, "run", "--address", "local", str(file)], environment)
    try:
        service.wait_for_line("Submitted deploy config successfully")
        url = f"http://127.0.0.1:{config['http_options']['port']}"
        with httpx.Client(base_url=url, timeout=120.0) as client:
            wait_until(lambda: is_ready(client))
            assert client.post("/generate", json=BODY).status_code == 200
            wait_until(lambda: len(replicas(client)) == 2)
        service.signal(signal.SIGINT)
        assert service.wait() == 0
    finally:
        service.close()


def is_ready(client):
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:  # nobody listens yet
        return False


class ServeCommand(RayService):
    """`serve run`, which takes its port from a file."""

    def __init__(self, command, environment):
        ServerProcess.__init__(self, command, environment)
