"""What an answer from the response cache costs, beside one that is generated.

    beamline serve --port 8000
    python -m benchmarks.response_cache --url http://127.0.0.1:8000

Asks a running server the same greedy requests again and again, once with its response cache and
once without, and prints the median time of an answer to one client and answers a second to many.

    beamline serve --port 8001 --cache-redis redis://127.0.0.1:6379/0 --response-cache-entries 0
    python -m benchmarks.response_cache --url ... --shared-url http://127.0.0.1:8001

also asks a second server, which keeps no answers in its memory and so finds each in Redis. An
answer that did not come from where it should ends the run. Every client asks for a text of its own,
since those who ask for one answer at the same time share a lookup.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

CLIENTS = 16
ATTEMPTS = 100  # until an answer is stored in Redis, which happens behind the first one's back


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where answers come from: a server, and what it is asked and says of it."""

    name: str
    url: str
    is_cached: bool
    num_answers: int
    num_tokens: int

    @property
    def outcome(self) -> str:
        """The header `X-Cache` of its answers."""
        return "HIT" if self.is_cached else "BYPASS"

    def body(self, client: int) -> bytes:
        """What one of the clients asks."""
        request = {
            "text": f"The sea is wide and {client + 10} ships are small.",
            "strategy": "greedy",
            "max_new_tokens": self.num_tokens,
            "cache": self.is_cached,
        }
        return json.dumps(request).encode()


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a source answered."""

    median_seconds: float  # to one client
    answers_per_second: float  # to many


async def _ask(session: aiohttp.ClientSession, source: Source, client: int) -> str:
    """Where the answer came from, by its header."""
    async with session.post(f"{source.url}/generate", data=source.body(client)) as response:
        await response.read()
        response.raise_for_status()
        return response.headers["X-Cache"]


async def _warm_up(session: aiohttp.ClientSession, source: Source) -> None:
    """Ask for every text until it comes from where it should."""
    for client in range(CLIENTS):
        for _ in range(ATTEMPTS):
            if await _ask(session, source, client) == source.outcome:
                break
        else:
            raise SystemExit(f"{source.url} does not answer {source.name}")


async def _time(
    session: aiohttp.ClientSession, source: Source, num_clients: int
) -> tuple[list[float], float]:
    """Seconds of each answer, and of all."""
    seconds: list[float] = []

    async def be_a_client(number: int) -> None:
        while len(seconds) < source.num_answers:
            began_at = time.perf_counter()
            outcome = await _ask(session, source, number)
            seconds.append(time.perf_counter() - began_at)
            if outcome != source.outcome:
                raise SystemExit(f"an answer was a {outcome} and not {source.name}")

    began_at = time.perf_counter()
    await asyncio.gather(*(be_a_client(number) for number in range(num_clients)))
    return seconds, time.perf_counter() - began_at


async def measure(source: Source) -> Speed:
    """Ask alone, and then by many."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await _warm_up(session, source)
        alone, _ = await _time(session, source, 1)
        together, seconds = await _time(session, source, CLIENTS)
    return Speed(statistics.median(alone), len(together) / seconds)


def show(speeds: Mapping[str, Speed]) -> None:
    """A line for each source; the last is what the others are compared with."""
    generated = list(speeds.values())[-1]
    for name, speed in speeds.items():
        in_time = generated.median_seconds / speed.median_seconds
        in_answers = speed.answers_per_second / generated.answers_per_second
        print(
            f"{name:15} median {1000 * speed.median_seconds:8.2f} ms to one client, "
            f"{speed.answers_per_second:8.1f} answers/s to {CLIENTS}; "
            f"ratio {in_time:6.1f} in time, {in_answers:6.1f} in answers a second"
        )


def sources(options: argparse.Namespace) -> list[Source]:
    """What is to be compared."""

    def source(name: str, url: str, *, is_cached: bool) -> Source:
        return Source(
            name=name,
            url=url.rstrip("/"),
            is_cached=is_cached,
            num_answers=options.hits if is_cached else options.misses,
            num_tokens=options.new_tokens,
        )

    found = [source("from memory", options.url, is_cached=True)]
    if options.shared_url is not None:
        found.append(source("from Redis", options.shared_url, is_cached=True))
    return [*found, source("generated", options.url, is_cached=False)]


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="a running server")
    parser.add_argument("--shared-url", help="one with --cache-redis and no answers in memory")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--hits", type=int, default=2000)
    parser.add_argument("--misses", type=int, default=32)
    compared = sources(parser.parse_args())
    show({source.name: asyncio.run(measure(source)) for source in compared})


if __name__ == "__main__":
    main()
