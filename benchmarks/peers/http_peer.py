"""Peers that are servers: Beamline itself and llama-server. Asked as any client would."""

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.load.arrivals import run_closed_loop
from benchmarks.load.result import LoadResult
from benchmarks.load.target import Target
from benchmarks.load.workload import PromptRequest
from benchmarks.peers.processes import PeerProcess
from benchmarks.peers.turn import PeerFailed, Turn

START_SECONDS = 300.0


@dataclass(slots=True, kw_only=True)
class HttpPeer:
    """A server, or one for each concurrency where it must be told in advance."""

    name: str
    command: Callable[[int, int], Sequence[str]]  # of a port and a concurrency
    target: Callable[[str], Target]  # of a URL
    health_path: str = "/health"
    is_told_concurrency: bool = False
    _servers: dict[int, tuple[PeerProcess, str]] = field(default_factory=dict)

    def start(self) -> None:
        """Start it for one stream; for others it starts when they come."""
        self._server(1)

    def take_turn(self, requests: Sequence[PromptRequest], concurrency: int) -> Turn:
        """Answer the requests."""
        process, url = self._server(concurrency)
        with process.awake():
            load = run_closed_loop(self.target(url), requests, concurrency=concurrency)
            result = asyncio.run(load)
        return _as_turn(result)

    def memory_bytes(self) -> int:
        """Of the largest of its servers."""
        return max((process.memory_bytes() for process, _ in self._servers.values()), default=0)

    def close(self) -> None:
        """End all of its servers."""
        for process, _ in self._servers.values():
            process.close()
        self._servers.clear()

    def _server(self, concurrency: int) -> tuple[PeerProcess, str]:
        key = concurrency if self.is_told_concurrency else 1
        if key not in self._servers:
            port = _free_port()
            process = PeerProcess(self.command(port, key))
            url = f"http://127.0.0.1:{port}"
            try:
                with process.awake():
                    _wait_until_ready(process, url + self.health_path)
            except PeerFailed:
                process.close()
                raise
            self._servers[key] = process, url
        return self._servers[key]


def _as_turn(result: LoadResult) -> Turn:
    if result.errors:
        raise PeerFailed(f"{result.errors.total()} requests failed: {next(iter(result.errors))}")
    return Turn(
        seconds=result.seconds,
        num_prompt_tokens=sum(record.num_prompt_tokens or 0 for record in result.answered),
        num_new_tokens=sum(record.num_new_tokens for record in result.answered),
        text=result.answered[0].text,
    )


def _wait_until_ready(process: PeerProcess, url: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.process.poll() is not None:
            raise PeerFailed(f"ended while starting: {process.last_words}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    raise PeerFailed(f"was not ready after {START_SECONDS:.0f} s: {process.last_words}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
