"""Bounds how long anybody waits for Redis, and lets every call come to an end of its own.

A call runs in a task of its own that outlives whoever waits for it. Were it cancelled with its
caller, its reply could stay in the connection, where the next call would read it as its own: so
answers once reached the wrong users (redis-py before 4.5.5). It would also cost the connection,
and one that takes longer to open than anybody waits, as over TLS, would never be opened.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

NUM_TURNS = 10  # of the event loop, that a reply takes from the socket to whoever waits

Result = TypeVar("Result")


class Patience:
    """The calls under way. Lives on the event loop."""

    def __init__(self, longest_seconds: float) -> None:
        self._longest_seconds = longest_seconds  # that a call may go on, though nobody waits
        self._calls: set[asyncio.Task[Any]] = set()

    @property
    def num_calls(self) -> int:
        """Calls under way, those included that nobody waits for."""
        return len(self._calls)

    async def wait(self, call: Coroutine[Any, Any, Result], seconds: float) -> Result:
        """What the call gives, within so many seconds.

        Raises:
            TimeoutError: it takes longer; it goes on by itself.
        """
        task = asyncio.create_task(self._limited(call))
        self._calls.add(task)
        task.add_done_callback(self._forget)
        await asyncio.wait({task}, timeout=seconds)
        # When the loop itself was late, its clock has moved on while the reply lay in the socket:
        # that is no fault of Redis, so what has come gets its turn.
        for _ in range(NUM_TURNS):
            if task.done():
                break
            await asyncio.sleep(0)
        if not task.done() or task.cancelled():
            raise TimeoutError(f"no answer within {1000 * seconds:g} ms")
        return task.result()

    async def close(self) -> None:
        """End the calls that go on; whoever waits for one gets a `TimeoutError`."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _limited(self, call: Coroutine[Any, Any, Result]) -> Result:
        async with asyncio.timeout(self._longest_seconds):
            return await call

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits for it any more
