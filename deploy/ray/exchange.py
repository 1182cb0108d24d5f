"""Has an ASGI application answer one call, and hands out what it sends as it comes.

`replica.py` uses it. Messages that are ready together come together: each step from replica to
front costs a millisecond, which streams of tokens would feel.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.types import ASGIApp, Message

from deploy.ray.call import HttpCall

PATIENCE_SECONDS = 1.0  # for an application that is told that nobody listens any more

logger = logging.getLogger(__name__)


class Exchange:
    """One request and its response. Belongs to the task that iterates over it."""

    def __init__(self, app: ASGIApp, call: HttpCall) -> None:
        self._app = app
        self._call = call
        self._ready: list[Message] = []
        self._has_news = asyncio.Event()
        self._is_body_read = False
        self._is_cut = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._has_news.set())

    async def batches(self) -> AsyncIterator[list[Message]]:
        """The messages of the response, as many at a time as there are."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            batch, self._ready = self._ready, []
            if batch:
                yield batch
            if self._task.done() and not self._ready:
                return

    async def close(self) -> None:
        """Nobody listens any more: tell the application so, and see it end.

        It is told by a disconnect first, as any server would, so that it counts and logs the
        request as one whose client has gone; what does not listen is cancelled.
        """
        self._is_cut.set()
        try:
            await asyncio.wait({self._task}, timeout=PATIENCE_SECONDS)
        finally:
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        state = {"is_counted": self._call.is_repeated}
        scope = {**self._call.scope, "root_path": "", "state": state, "asgi": {"version": "3.0"}}
        try:
            await self._app(scope, self._receive, self._send)
        except Exception:  # the application has answered it with a 500 already
            logger.exception("a request failed unexpectedly")

    async def _receive(self) -> Message:
        if not self._is_body_read:
            self._is_body_read = True
            return {"type": "http.request", "body": self._call.body, "more_body": False}
        await self._is_cut.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self._ready.append(message)
        self._has_news.set()
