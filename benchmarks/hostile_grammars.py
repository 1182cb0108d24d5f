"""How long hostile grammars hold others up: the gaps in a stream, in peace and under attack.

    python -m benchmarks.hostile_grammars [--seconds 15] [--port 8131]

A real server with the default model streams text to one client without a pause. Then another client
sends schemas and regexes that are deep, huge or explosive, one after the other, as fast as they are
answered. Prints the longest and the usual gap between two tokens of the stream both times, how much
the longest grew, and what became of the hostile requests.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import aiohttp


def nested(depth: int) -> dict[str, Any]:
    """A schema of arrays in arrays."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE: dict[str, dict[str, Any]] = {
    "deep schema": {"json": nested(60)},
    "too deep schema": {"json": nested(500)},
    "endless schema": {"json": {"$ref": "#"}},
    "recursive schema": {
        "json": {
            "$defs": {"a": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}}] * 40}},
            "$ref": "#/$defs/a",
        }
    },
    "wide schema": {
        "json": {
            "type": "object",
            "properties": {
                f"p{at}": {"type": "string", "pattern": "^[a-z]{1,100}$"} for at in range(2000)
            },
            "required": [f"p{at}" for at in range(2000)],
        }
    },
    "product schema": {
        "json": {
            "allOf": [
                {"anyOf": [{"type": "string", "pattern": f"a{{{at},{at + m}}}"} for m in range(6)]}
                for at in range(8)
            ]
        }
    },
    "large enum": {"json": {"enum": [f"value number {at}" for at in range(8000)]}},
    "long text": {"json": {"type": "string", "minLength": 10**6}},
    "repeated regex": {"regex": "(a{1,1000}){1,1000}"},
    "exponential regex": {"regex": "(.*a.{0,200}b.*){1,50}"},
    "ambiguous regex": {"regex": "(x+x+)+y"},
    "alternatives": {"regex": "(" + "|".join(f"x{at}.*y{at}" for at in range(3000)) + ")"},
    "ambiguous grammar": {"grammar": 'start: a\na: a a a | "x" a | a "y" | /[a-z]+/ | ""'},
    "many choices": {"choice": [f"choice {at}" for at in range(4000)]},
}
PROMPT = {"text": "Once upon a time", "strategy": "greedy", "max_new_tokens": 1500, "cache": False}


async def stream_gaps(url: str, seconds: float) -> list[float]:
    """Seconds between the tokens of streams that follow each other for so long."""
    gaps: list[float] = []
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            async with session.post(f"{url}/generate/stream", json=PROMPT) as response:
                last = None
                async for line in response.content:
                    if not line.startswith(b"event: token"):
                        continue
                    now = time.monotonic()
                    if last is not None:
                        gaps.append(now - last)
                    last = now
                    if now > end:
                        break
    return gaps


async def attack(url: str, seconds: float) -> Counter[str]:
    """What the hostile requests get."""
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < end:
            for name, structure in HOSTILE.items():
                body = {
                    "text": "Answer:",
                    "strategy": "sample",
                    "num_return_sequences": 2,
                    "max_new_tokens": 12,
                    "structured_outputs": structure,
                }
                async with session.post(f"{url}/generate", json=body) as response:
                    answer = await response.json()
                    code = answer["error"]["code"] if "error" in answer else "answered"
                    outcomes[f"{name}: {response.status} {code}"] += 1
    return outcomes


async def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the model is loaded."""
    async with aiohttp.ClientSession() as session:
        while process.poll() is None:
            try:
                async with session.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise SystemExit("the server ended")


def describe(name: str, gaps: list[float]) -> str:
    """Median, 99th percentile and longest, in milliseconds."""
    ordered = sorted(gaps)
    late = ordered[int(len(ordered) * 0.99)]
    return (
        f"{name}: median {statistics.median(ordered) * 1e3:.1f} ms, 99% within {late * 1e3:.1f} "
        f"ms, longest {ordered[-1] * 1e3:.1f} ms, of {len(ordered)} gaps"
    )


async def measure(url: str, process: subprocess.Popen[bytes], seconds: float) -> None:
    """Both phases."""
    await wait_until_ready(url, process)
    await stream_gaps(url, 3.0)
    peace = await stream_gaps(url, seconds)
    war, outcomes = await asyncio.gather(stream_gaps(url, seconds), attack(url, seconds))
    print(describe("in peace", peace))
    print(describe("under attack", war))
    print(f"longest delay added: {(max(war) - max(peace)) * 1e3:.1f} ms")
    print(json.dumps(outcomes, indent=1))


def main() -> None:
    """Start a server, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--port", type=int, default=8131)
    arguments = parser.parse_args()
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve"]
    options = ["--port", str(arguments.port), "--no-access-log"]
    process = subprocess.Popen([*command, *options])
    try:
        asyncio.run(measure(f"http://127.0.0.1:{arguments.port}", process, arguments.seconds))
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
