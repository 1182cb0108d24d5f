"""What a request and a streamed token cost apart from the model: a runner answers at once.

    python -m benchmarks.http_cost [--seconds 5] [--clients 64] [--profile FILE]

A server process and a process of clients share this machine's cores. First every client asks for
one token again and again, then every client streams texts of `--new-tokens` tokens. Prints requests
and streamed tokens a second, and the processor time that the server and the clients took for each.
"""

import argparse
import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

PROMPT = "The sea is wide"
LAST_EVENT = b"event: done"


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients do over and over until the time is up."""

    name: str  # of what is counted
    path: str
    num_new: int  # tokens that each request asks for
    per_request: int  # how many of what is counted a request makes

    @property
    def request(self) -> bytes:
        """The bytes of one request on a connection that stays open."""
        body = json.dumps(
            {"text": PROMPT, "strategy": "greedy", "max_new_tokens": self.num_new, "cache": False}
        )
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: beamline\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, load: Load) -> None:
    """One request, read to its end.

    Raises:
        RuntimeError: the answer is not a good one.
    """
    writer.write(load.request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if length is not None:
        await reader.readexactly(int(length[1]))
        return
    tail, has_ended = b"", False
    while not tail.endswith(b"0\r\n\r\n"):
        read = await reader.read(1 << 16)
        if not read:
            raise RuntimeError("the connection was closed in the middle of a stream")
        tail = tail[-64:] + read
        has_ended = has_ended or LAST_EVENT in tail
    if not has_ended:
        raise RuntimeError("a stream ended without its last event")


async def run(port: int, load: Load, *, clients: int, seconds: float) -> float:
    """How many a second all clients together got done."""
    ends_at = time.perf_counter() + seconds
    num_done = 0

    async def be_a_client() -> None:
        nonlocal num_done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < ends_at:
            await ask(reader, writer, load)
            num_done += 1
        writer.close()

    began_at = time.perf_counter()
    await asyncio.gather(*(be_a_client() for _ in range(clients)))
    return num_done * load.per_request / (time.perf_counter() - began_at)


@contextmanager
def serving(profile: str | None) -> Iterator[tuple[psutil.Process, int]]:
    """A server process and its port."""
    command = [sys.executable, "-m", "benchmarks.instant_server"]
    command += ["--profile", profile] if profile else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the server did not start")
            yield psutil.Process(process.pid), int(url.rsplit(":", 1)[1])
        finally:
            process.send_signal(signal.SIGTERM)


def cpu_seconds(process: psutil.Process) -> float:
    """Processor time of all its threads so far."""
    times = process.cpu_times()
    return times.user + times.system


def measure(load: Load, server: psutil.Process, port: int, options: argparse.Namespace) -> None:
    """Run a load and print what it took."""
    asyncio.run(run(port, load, clients=options.clients, seconds=options.seconds / 5))  # warms up
    here = psutil.Process()
    before = cpu_seconds(server), cpu_seconds(here)
    began_at = time.perf_counter()
    rate = asyncio.run(run(port, load, clients=options.clients, seconds=options.seconds))
    count = rate * (time.perf_counter() - began_at)
    spent = cpu_seconds(server) - before[0], cpu_seconds(here) - before[1]
    server_us, client_us = (seconds / count * 1e6 for seconds in spent)
    print(
        f"{rate:9.0f} {load.name}/s with {options.clients} clients; processor time of each: "
        f"server {server_us:.1f} us, clients {client_us:.1f} us",
        flush=True,
    )


def main() -> None:
    """Read the options and measure both loads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=256, help="of each stream")
    parser.add_argument("--profile", help="where to write the server's profile, for pstats")
    options = parser.parse_args()
    num_new = options.new_tokens
    with serving(options.profile) as (server, port):
        measure(Load("requests", "/generate", 1, 1), server, port, options)
        streams = Load("streamed tokens", "/generate/stream", num_new, num_new)
        measure(streams, server, port, options)


if __name__ == "__main__":
    main()
