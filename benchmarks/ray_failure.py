"""What the death of a replica costs on Ray: throughput before, during and after.

    python -m benchmarks.ray_failure --model path/to/a/small/model

Two replicas on this machine under a load of clients that each wait for their answer. Amid it one
replica is killed (SIGKILL); Ray starts another. Prints answers a second from the start until the
kill, until the new replica is ready, and from then on, and how many requests failed: none should.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import psutil

TITLE = "ray::ServeReplica:beamline:Replica"
POLL_SECONDS = 0.25
STOP_SECONDS = 60.0


@dataclass(slots=True)
class Load:
    """Clients in threads, and what they were told."""

    url: str
    new_tokens: int
    answers: list[tuple[float, int]] = field(default_factory=list)  # when, and the status
    is_over: threading.Event = field(default_factory=threading.Event)

    def be_a_client(self, number: int) -> None:
        """Ask, wait, and ask again."""
        count = 0
        while not self.is_over.is_set():
            count += 1
            text = f"Client {number} counts {count} ships."
            body = {"text": text, "max_new_tokens": self.new_tokens, "strategy": "greedy"}
            body["cache"] = False
            status = _post(f"{self.url}/generate", body)
            self.answers.append((time.monotonic(), status))

    def rate(self, begin: float, end: float) -> float:
        """Answers a second."""
        good = sum(begin <= moment < end for moment, status in self.answers if status == 200)
        return good / (end - begin)


def main() -> int:
    """Run it; returns the exit code: 1 if a request failed."""
    options = _parse()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"device": "cpu", "access_log": False}
    if options.model:
        settings["model"] = options.model
    arguments = {"settings": settings, "min_replicas": 2, "max_replicas": 2}
    program = [sys.executable, "-m", "deploy.ray.local", json.dumps(arguments), str(port)]
    cluster = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert cluster.stdout is not None, "it is a pipe"
        next(line for line in cluster.stdout if line.startswith("ready:"))
        threading.Thread(target=cluster.stdout.read, daemon=True).start()
        return _run(f"http://127.0.0.1:{port}", cluster.pid, options)
    finally:
        family = psutil.Process(cluster.pid).children(recursive=True)
        cluster.send_signal(signal.SIGTERM)
        cluster.wait(STOP_SECONDS)
        for each in psutil.wait_procs(family, timeout=10)[1]:
            each.kill()


def _run(url: str, cluster: int, options: argparse.Namespace) -> int:
    load = Load(url, options.new_tokens)
    clients = [
        threading.Thread(target=load.be_a_client, args=(number,))
        for number in range(options.clients)
    ]
    began_at = time.monotonic()
    for client in clients:
        client.start()
    time.sleep(options.seconds)
    victim = next(each for each in _replicas(cluster))
    killed_at = time.monotonic()
    victim.kill()
    time.sleep(1.0)  # until the fleet knows
    while _num_ready(url) < 2:
        time.sleep(POLL_SECONDS)
    back_at = time.monotonic()
    time.sleep(options.seconds)
    ended_at = time.monotonic()
    load.is_over.set()
    for client in clients:
        client.join()
    print(
        f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.clients} clients"
    )
    print(f"before: {load.rate(began_at, killed_at):.2f} answers/s")
    print(f"during: {load.rate(killed_at, back_at):.2f} answers/s, for {back_at - killed_at:.1f} s")
    print(f"after: {load.rate(back_at, ended_at):.2f} answers/s")
    statuses = Counter(status for _, status in load.answers)
    print(f"answers by status: {dict(statuses)}")
    return int(set(statuses) != {200})


def _replicas(cluster: int) -> list[psutil.Process]:
    family = psutil.Process(cluster).children(recursive=True)
    return [each for each in family if " ".join(each.cmdline()).startswith(TITLE)]


def _num_ready(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        return len(re.findall(r"^waiting_requests{", answer.read().decode(), re.MULTILINE))


def _post(url: str, body: dict[str, object]) -> int:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="instead of the default")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20.0, help="before the kill, and after")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
