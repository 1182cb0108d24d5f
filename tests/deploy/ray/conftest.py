"""Real Ray clusters on this machine that serve a tiny model; each module of tests has its own."""

import json
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import (
    CHAT_TEMPLATE,
    ServerProcess,
    build_tokenizer,
    save_tiny_model,
    server_environment,
)

ROOT = Path(__file__).parents[3]
REPLICA, FRONT = "Replica", "Front"
PLUGIN = "beamline_test_faults"
READY, TOO_SLOW = "ready:", "timed out during startup"  # what a cluster says of its start
STARTS = 5
FAULTS = ("Gated", "Fatal", "Stuck")


class RayService(ServerProcess):
    """The process that holds a cluster; SIGTERM ends all of it."""

    start_seconds = 400.0  # half a dozen processes, and each imports much

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.port = free_port()
        super().__init__([*command, str(self.port)], environment)

    def processes(self, deployment: str) -> list[psutil.Process]:
        """Those of a deployment that are alive."""
        title = f"ray::ServeReplica:beamline:{deployment}"
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if _title(each).startswith(title)]

    def close(self) -> None:
        family = []
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
        self.wait()
        self.process.stdout.close()
        for each in psutil.wait_procs(family, timeout=10)[1]:
            each.kill()


@dataclass(frozen=True)
class Place:
    """What clusters need on disk."""

    folder: Path
    model: Path
    environment: dict[str, str]


def start_cluster(place: Place, settings: dict[str, object], **arguments: object) -> RayService:
    """A cluster by `deploy.ray.local`, ready.

    Ray ends itself where its own processes take more than 15 seconds to start, as they do on a
    machine that is full of other work; so it may try again.
    """
    own = {"model": str(place.model), "device": "cpu", "runtime": "torch"}
    given = {"settings": own | settings, "num_cpus": 0.5} | arguments
    command = [sys.executable, "-m", "deploy.ray.local", json.dumps(given)]
    for _ in range(STARTS - 1):
        service = RayService(command, place.environment)
        if service.wait_for_line(rf"{READY}|{TOO_SLOW}")[0] == "ready:":
            return service
        service.close()
    return RayService(command, place.environment)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _install_faults(site: Path) -> None:
    shutil.copy(Path(__file__).with_name("faults.py"), site / f"{PLUGIN}.py")
    info = site / f"{PLUGIN}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1.0\n")
    lines = [f"{each.lower()} = {PLUGIN}:{each}" for each in FAULTS]
    (info / "entry_points.txt").write_text("\n".join(["[beamline.strategies]", *lines, ""]))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    tokenizer.chat_template = CHAT_TEMPLATE
    save_tiny_model(folder / "tiny-chat", tokenizer)
    site = folder / "site"
    site.mkdir()
    _install_faults(site)
    environment = server_environment(
        BEAMLINE_CACHE_FOLDER=str(folder / "cache"),
        PYTHONPATH=f"{ROOT}:{site}",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_raylet_start_wait_time_s="60",  # a loaded machine
        OMP_NUM_THREADS="1",
    )
    return Place(folder, folder / "tiny-chat", environment)


@pytest.fixture(scope="module")
def url(ray_service):
    """Of the cluster that the module has started as `ray_service`."""
    return ray_service.ready_url()


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=300.0) as client:
        yield client
