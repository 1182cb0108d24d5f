"""Asks a server once, and notes when each token came.

Made to be cheap, since it shares the machine with the server: events are cut out of the bytes as
they come, and nothing else is done with them than the target's `read`.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp

from benchmarks.load.result import Record
from benchmarks.load.target import Target, UnexpectedAnswer
from benchmarks.load.workload import PromptRequest

HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream"}


def open_session(timeout_seconds: float) -> aiohttp.ClientSession:
    """A session that waits so long for an answer.

    Each request has a connection of its own: some servers close theirs after a stream.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        headers=HEADERS,
    )


async def ask(
    session: aiohttp.ClientSession, target: Target, request: PromptRequest, *, began_at: float
) -> Record:
    """Send a request and read its answer to the end; failures are in the record.

    `began_at` is when the load began, on the clock of `time.perf_counter`.
    """
    record = Record(started_at=time.perf_counter() - began_at)
    try:
        body, headers = target.body(request), target.headers
        async with session.post(target.url, data=body, headers=headers) as response:
            await _read(response, target, record, began_at)
    except UnexpectedAnswer as error:
        record.error = str(error)
    except TimeoutError:
        record.error = "no answer in time"
    except (aiohttp.ClientError, LookupError, TypeError, AttributeError, ValueError) as error:
        record.error = f"{type(error).__name__}: {error}"
    except asyncio.CancelledError:
        record.error = "given up at the end of the load"
        raise
    finally:
        record.ended_at = time.perf_counter() - began_at
    return record


async def _read(
    response: aiohttp.ClientResponse, target: Target, record: Record, began_at: float
) -> None:
    if response.status != 200:
        words = " ".join((await response.text()).split())[:200]
        raise UnexpectedAnswer(f"HTTP {response.status}: {words}")
    parts: list[str] = []
    total, is_whole = None, False
    async for event, data in _events(response.content):
        said = target.read(event, data)
        if said.num_tokens:
            now = time.perf_counter() - began_at
            record.token_times += [now] * said.num_tokens
            parts.append(said.text)
        if said.num_prompt_tokens is not None:
            record.num_prompt_tokens = said.num_prompt_tokens
        if said.num_new_tokens is not None:
            total = said.num_new_tokens
        is_whole |= said.is_last
    if not is_whole:
        raise UnexpectedAnswer("the stream ended before the answer did")
    if not parts:
        raise UnexpectedAnswer("an answer without a token")
    record.text = "".join(parts)
    record.num_new_tokens = len(record.token_times) if total is None else total


async def _events(stream: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Name and data of each server-sent event."""
    rest = b""
    async for chunk in stream.iter_any():
        *frames, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for frame in frames:
            name, data = "message", []
            for line in frame.decode().split("\n"):
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif line.startswith("event:"):
                    name = line[6:].strip()
            if data:
                yield name, "\n".join(data)
