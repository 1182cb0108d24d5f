"""What an answer from the response cache costs, beside one that is generated.

    python -m benchmarks.response_cache --url http://127.0.0.1:8000

Asks a running server the same greedy request again and again, once with its response cache and
once without, and prints the median time of an answer to one client and answers a second to many.
"""

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import dataclass

import aiohttp

REQUEST = {"text": "The sea is wide and the ships are small.", "strategy": "greedy"}
CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Side:
    """How fast one side answered."""

    median_seconds: float  # to one client
    answers_per_second: float  # to many


async def _time(url: str, body: bytes, count: int, clients: int) -> tuple[list[float], float]:
    """Seconds of each answer, and of all."""
    seconds: list[float] = []
    headers = {"Content-Type": "application/json"}

    async def be_a_client(session: aiohttp.ClientSession) -> None:
        while len(seconds) < count:
            began_at = time.perf_counter()
            async with session.post(f"{url}/generate", data=body) as response:
                await response.read()
                response.raise_for_status()
            seconds.append(time.perf_counter() - began_at)

    async with aiohttp.ClientSession(headers=headers) as session:
        began_at = time.perf_counter()
        await asyncio.gather(*(be_a_client(session) for _ in range(clients)))
        return seconds, time.perf_counter() - began_at


async def measure(url: str, *, new_tokens: int, count: int, is_cached: bool) -> Side:
    """Ask `count` times alone and `count` times by many."""
    body = json.dumps(REQUEST | {"max_new_tokens": new_tokens, "cache": is_cached}).encode()
    await _time(url, body, 3, 1)  # fills the cache
    alone, _ = await _time(url, body, count, 1)
    together, seconds = await _time(url, body, count, CLIENTS)
    return Side(statistics.median(alone), len(together) / seconds)


async def compare(url: str, *, new_tokens: int, hits: int, misses: int) -> None:
    """Measure both sides in turn and print them."""
    hit = await measure(url, new_tokens=new_tokens, count=hits, is_cached=True)
    miss = await measure(url, new_tokens=new_tokens, count=misses, is_cached=False)
    for name, side in (("from the cache", hit), ("generated", miss)):
        print(
            f"{name:15} median {1000 * side.median_seconds:8.2f} ms to one client, "
            f"{side.answers_per_second:8.1f} answers/s to {CLIENTS}"
        )
    in_time = miss.median_seconds / hit.median_seconds
    in_answers = hit.answers_per_second / miss.answers_per_second
    print(f"{'ratio':15} {in_time:.1f} in time, {in_answers:.1f} in answers a second")


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="a running server")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--hits", type=int, default=2000)
    parser.add_argument("--misses", type=int, default=32)
    options = parser.parse_args()
    asyncio.run(
        compare(
            options.url.rstrip("/"),
            new_tokens=options.new_tokens,
            hits=options.hits,
            misses=options.misses,
        )
    )


if __name__ == "__main__":
    main()
