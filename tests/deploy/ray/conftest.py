"""A real Ray cluster on this machine that serves a tiny model with two replicas."""

import json
import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import ServerProcess, build_tokenizer, save_tiny_model, server_environment

CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ROOT = Path(__file__).parents[3]
REPLICA_TITLE = "ray::ServeReplica:beamline:Replica"


class RayService(ServerProcess):
    """The process that holds the cluster; closing its input ends all of it."""

    def __init__(self, arguments: dict[str, object], environment: dict[str, str]) -> None:
        self.port = _free_port()
        program = [sys.executable, "-m", "deploy.ray.local"]
        command = [*program, json.dumps(arguments), str(self.port)]
        super().__init__(command, environment)

    def replica_processes(self) -> list[psutil.Process]:
        """The processes of the replicas that are alive."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if _title(each).startswith(REPLICA_TITLE)]

    def close(self) -> None:
        family = []
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.terminate()
        self.wait()
        self.process.stdout.close()
        for each in psutil.wait_procs(family, timeout=10)[1]:
            each.kill()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def ray_service(tmp_path_factory):
    """Two replicas with little room, so that tests can fill it."""
    folder = tmp_path_factory.mktemp("ray")
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|end|>"})
    tokenizer.chat_template = CHAT_TEMPLATE
    save_tiny_model(folder / "tiny-chat", tokenizer)
    settings = {
        "model": str(folder / "tiny-chat"),
        "device": "cpu",
        "runtime": "torch",
        "max_rows": 8,
        "max_waiting_requests": 24,
    }
    arguments = {"settings": settings, "min_replicas": 2, "max_replicas": 2, "num_cpus": 0.5}
    environment = server_environment(
        BEAMLINE_CACHE_FOLDER=str(folder / "cache"),
        PYTHONPATH=str(ROOT),
        RAY_USAGE_STATS_ENABLED="0",
        OMP_NUM_THREADS="1",
    )
    service = RayService(arguments, environment)
    yield service
    service.close()
