"""The real vllm-router before real servers that all know one key, and what tests ask of them.

The router is a program of its own environment (`make clients`), and starts in a second.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai

from tests.e2e.conftest import ServerProcess, beamline, server_environment

ROUTER = Path(__file__).parents[2] / ".venv-clients" / "router" / "bin" / "vllm-router"
MODEL = "tiny-chat"
KEY = "sk-that-every-server-knows"
KEY_OF_SECOND = "sk-that-one-server-knows"
TOPICS = ("harbour", "lighthouse", "tide", "anchor", "gull", "keel")
WITH_KEY = {"Authorization": f"Bearer {KEY}"}


class Fleet:
    """Two servers on one model, each on a port of its own. A test may end one and start it anew."""

    def __init__(self, model_folder: Path, cache_folder: Path, *options: str) -> None:
        self._command = ("serve", "--model", str(model_folder), "--runtime", "torch")
        self._command += ("--device", "cpu", "--public-metrics", *options)
        self._cache_folder = cache_folder
        self._ports = free_ports(2)
        self.servers = [self._start(at) for at in range(2)]

    def _start(self, at: int) -> ServerProcess:
        environment = server_environment(
            BEAMLINE_CACHE_FOLDER=str(self._cache_folder),
            BEAMLINE_API_KEYS=KEY if at == 0 else f"{KEY},{KEY_OF_SECOND}",
            OMP_NUM_THREADS="1",
        )
        return ServerProcess(beamline(*self._command, "--port", str(self._ports[at])), environment)

    def start_again(self, at: int) -> None:
        """Put a new server where one has ended; it is ready when this returns."""
        self.servers[at].close()
        self.servers[at] = self._start(at)
        self.servers[at].ready_url()

    def urls(self) -> list[str]:
        """Where they listen, once all are ready."""
        return [server.ready_url() for server in self.servers]

    def metric(self, name: str) -> list[float]:
        """What each of them says."""
        pages = [httpx.get(f"{url}/metrics").text for url in self.urls()]
        return [float(re.search(rf"^{name} (\S+)$", page, re.MULTILINE)[1]) for page in pages]

    def client(self, at: int = 0) -> openai.OpenAI:
        """One that asks a server itself."""
        return openai.OpenAI(base_url=f"{self.urls()[at]}/v1", api_key=KEY, max_retries=0)

    def close(self) -> None:
        """Kill what is left."""
        for server in self.servers:
            server.close()


@contextmanager
def routed(fleet: Fleet, *options: str) -> Iterator[str]:
    """The URL of a router before the fleet, which looks at its servers' health every second."""
    port, metrics_port = free_ports(2)
    command = [str(ROUTER), "--port", str(port), "--prometheus-port", str(metrics_port), *options]
    command += ["--health-check-interval-secs", "1", "--worker-urls", *fleet.urls()]
    router = ServerProcess(command, server_environment(NO_COLOR="1"))
    try:
        router.wait_for_line("Starting server on")
        yield f"http://127.0.0.1:{port}"
    finally:
        router.close()


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens on."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def client_of(url: str, key: str = KEY) -> openai.OpenAI:
    """One that asks the router."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def conversation(topic: str, turns: int = 0) -> list[dict[str, str]]:
    """Messages that begin as those of fewer turns do."""
    messages = [{"role": "user", "content": f"Tell me all about the {topic}. " * 20}]
    for turn in range(turns):
        messages.append({"role": "assistant", "content": f"{turn} well, then. " * 10})
        messages.append({"role": "user", "content": f"And then? {turn}"})
    return messages


def ask(client: openai.OpenAI, topic: str, turns: int = 0, **fields):
    """A chat's answer, short and seeded."""
    return client.chat.completions.create(
        model=MODEL, messages=conversation(topic, turns), max_tokens=4, seed=1, **fields
    )
