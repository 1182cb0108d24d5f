"""Ends work for a client that has hung up.

Frameworks cancel a streaming response when its client goes, but let a plain endpoint run to its
end for nobody. Routes wrap what they await in `run_until_disconnect`; the event stream does too.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.types import Receive

from app.errors import ClientDisconnected

PATIENCE_SECONDS = 0.05  # most short answers are out by then, and need nobody to watch

Result = TypeVar("Result")


async def run_until_disconnect(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled once `receive` tells of a disconnect.

    The request's body must have been read: only its end or a disconnect may follow.

    Raises:
        ClientDisconnected: the client went first; `work` has been cancelled and has ended.
        Exception: what `work` raised, or `receive`, which breaks with a connection.
    """
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    watch = _Watch(receive, task)
    timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, watch.begin)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.has_cancelled and task.uncancel() == 0:  # by the watch, and by nobody else
            watch.result()
            raise ClientDisconnected("The client closed the connection.") from None
        raise
    finally:
        timer.cancel()
        await watch.end()


class _Watch:
    """Waits for a disconnect and then cancels a task. Used by that task's own call alone."""

    def __init__(self, receive: Receive, task: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._task = task
        self._watcher: asyncio.Task[None] | None = None
        self.has_cancelled = False
        self._has_ended = False

    def begin(self) -> None:
        """Watch from now on."""
        self._watcher = asyncio.ensure_future(_disconnected(self._receive))
        self._watcher.add_done_callback(self._cancel)

    def result(self) -> None:
        """Raise what `receive` raised."""
        if self._watcher is not None:
            self._watcher.result()

    async def end(self) -> None:
        """Let go of the connection."""
        self._has_ended = True  # a callback that is on its way cannot be taken back
        watcher = self._watcher
        if watcher is None:
            return
        watcher.remove_done_callback(self._cancel)
        watcher.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await watcher

    def _cancel(self, watcher: asyncio.Task[None]) -> None:
        if not self._has_ended and not watcher.cancelled():
            self.has_cancelled = True
            self._task.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
