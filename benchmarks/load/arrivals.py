"""When requests are sent: by a number of clients that each wait for their answer, or by chance.

A closed loop shows what a server does at a concurrency; Poisson arrivals, which never wait, show
what its clients would see at a rate.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from benchmarks.load.client import ask, open_session
from benchmarks.load.result import LoadResult, Record
from benchmarks.load.target import Target
from benchmarks.load.workload import PromptRequest

TIMEOUT_SECONDS = 600.0

OnDone = Callable[[], None]


async def run_closed_loop(
    target: Target,
    requests: Sequence[PromptRequest],
    *,
    concurrency: int,
    seconds: float | None = None,
    on_done: OnDone | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> LoadResult:
    """Send all requests, `concurrency` at a time; none is begun after `seconds`."""
    waiting = iter(requests)
    records: list[Record] = []
    began_at = time.perf_counter()

    async def be_a_client() -> None:
        for request in waiting:
            if seconds is not None and time.perf_counter() - began_at >= seconds:
                return
            records.append(await ask(session, target, request, began_at=began_at))
            if on_done is not None:
                on_done()

    async with open_session(timeout_seconds) as session:
        async with asyncio.TaskGroup() as clients:
            for _ in range(min(concurrency, len(requests))):
                clients.create_task(be_a_client())
        return LoadResult(records=records, seconds=time.perf_counter() - began_at)


async def run_open_loop(
    target: Target,
    requests: Sequence[PromptRequest],
    *,
    moments: Sequence[float],
    on_done: OnDone | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> LoadResult:
    """Send requests at their moments, in seconds, whatever is still running."""
    records: list[Record] = []
    began_at = time.perf_counter()

    async def send(request: PromptRequest) -> None:
        records.append(await ask(session, target, request, began_at=began_at))
        if on_done is not None:
            on_done()

    async with open_session(timeout_seconds) as session:
        async with asyncio.TaskGroup() as sent:
            for request, moment in zip(requests, moments, strict=False):
                await asyncio.sleep(began_at + moment - time.perf_counter())
                sent.create_task(send(request))
        return LoadResult(records=records, seconds=time.perf_counter() - began_at)


def poisson_moments(
    count: int, *, rate: float, seed: int, until: float | None = None
) -> list[float]:
    """At most `count` arrival times before `until`, at random, `rate` a second on average.

    Gaps are independent and exponential.
    """
    source, moment, moments = random.Random(seed), 0.0, []
    for _ in range(count):
        moment += source.expovariate(rate)
        if until is not None and moment >= until:
            break
        moments.append(moment)
    return moments
