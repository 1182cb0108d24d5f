"""Two real servers side by side: what their steps cost, and what a Poisson load does to them.

Both run at the same time and are loaded alike, so that what they take from each other on one
machine is in the costs as well. Requests go to them in turn, chosen by the client: a balancer
that costs nothing.
"""

import asyncio
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from statistics import median

from benchmarks.fleet.costs import StepCosts
from benchmarks.load.arrivals import poisson_moments, run_closed_loop, run_open_loop
from benchmarks.load.result import LoadResult
from benchmarks.load.target import BeamlineTarget, Said
from benchmarks.load.workload import Mix, PromptRequest, make_requests

START_SECONDS = 300.0
STOP_SECONDS = 60.0
ROWS = (1, 2, 4, 8, 16)  # sequences in a step, for which it is measured
NEW_TOKENS = 48
PROMPTS = (16, 32, 64, 128, 256)  # tokens of a prompt, about, for which it is measured


@dataclass(slots=True)
class InTurn:
    """A target for `benchmarks.load` whose requests go to several servers, one after the other."""

    urls: Sequence[str]
    _target: BeamlineTarget = field(init=False)
    _order: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self._target = BeamlineTarget(self.urls[0], {"strategy": "greedy", "min_new_tokens": 0})
        self._order = cycle(self.urls)

    @property
    def url(self) -> str:
        """Where the next request is posted."""
        return BeamlineTarget(next(self._order)).url

    @property
    def headers(self) -> Mapping[str, str]:
        """None of its own: these servers know no keys."""
        return self._target.headers

    def body(self, request: PromptRequest) -> bytes:
        """The request as JSON, which asks for all its tokens whatever the model would end."""
        exact = {"strategy": "greedy", "min_new_tokens": request.max_new_tokens}
        return BeamlineTarget(self.urls[0], exact).body(request)

    def read(self, event: str, data: str) -> Said:
        """What an event says."""
        return self._target.read(event, data)


@contextmanager
def two_servers(*options: str) -> Iterator[list[str]]:
    """The URLs of two servers with one thread each, ready; stopped at the end."""
    with ExitStack() as running:
        urls = [running.enter_context(_server(*options)) for _ in range(2)]
        for url in urls:
            _wait_until_ready(url)
        yield urls


@contextmanager
def _server(*options: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    command = [*program, "--port", str(port), "--threads", "1", "--no-access-log", *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(f"{url} was not ready after {START_SECONDS:.0f} s")


def measure(urls: Sequence[str], source: str, *, seed: int) -> StepCosts:
    """What a step costs, both servers being loaded alike.

    A step of n sequences is the time between the tokens of n clients of each; reading a prompt is
    what its first token takes longer than a step. With another seed prompts are others: servers
    that were measured with the same ones would still know them.
    """
    decode = {rows: _step_seconds(urls, rows, seed) for rows in ROWS}
    _reading(urls, PROMPTS[-1], f"{seed} before")  # the first are slower
    reading = {length: _reading(urls, length, str(seed)) for length in PROMPTS}
    prompt = {length: max(took - decode[1], 0.0) for length, took in reading.items()}
    return StepCosts(decode_seconds=decode, prompt_seconds=prompt, source=source)


def _step_seconds(urls: Sequence[str], rows: int, seed: int) -> float:
    concurrency = rows * len(urls)
    requests = _requests(
        concurrency * 2, prompt=PROMPTS[0], answer=NEW_TOKENS, seed=f"{seed} step {rows}"
    )
    result = asyncio.run(run_closed_loop(InTurn(urls), requests, concurrency=concurrency))
    return median(gap for record in result.answered for gap in record.gaps)


def _reading(urls: Sequence[str], prompt: int, seed: str) -> float:
    requests = _requests(12, prompt=prompt, answer=1, seed=f"{seed} prompt {prompt}")
    result = asyncio.run(run_closed_loop(InTurn(urls), requests, concurrency=len(urls)))
    return median(record.time_to_first_token for record in result.answered)


def serve_poisson(
    urls: Sequence[str], *, rate: float, seconds: float, prompt: int, answer: int
) -> LoadResult:
    """What a Poisson load of these lengths comes to."""
    moments = poisson_moments(10**6, rate=rate, seed=7, until=seconds)
    requests = _requests(len(moments), prompt=prompt, answer=answer, seed="load")
    return asyncio.run(run_open_loop(InTurn(urls), requests, moments=moments))


def _requests(count: int, *, prompt: int, answer: int, seed: str) -> list[PromptRequest]:
    return make_requests(count, prompt=_only(prompt), answer=_only(answer), seed=seed)


def _only(length: int) -> Mix:
    return Mix(((length, length),), (1.0,))
