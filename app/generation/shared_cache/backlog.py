"""Work that nobody waits for, done one after the other in the background. Lives on the event loop.

Bounded in number: what comes while the backlog is full is refused, and what is not done when the
service stops is dropped after a moment.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class Backlog:
    """Runs work in order. What it raises is logged, and that is all."""

    def __init__(self, max_pending: int) -> None:
        self._queue: asyncio.Queue[Work] = asyncio.Queue(max_pending)
        self._worker: asyncio.Task[None] | None = None  # from the first work on
        self._is_closed = False

    @property
    def num_pending(self) -> int:
        """What waits; that which is being done does not count."""
        return self._queue.qsize()

    def add(self, work: Work) -> bool:
        """Have this done; False: there is too much already. Needs a running event loop."""
        if self._is_closed or self._queue.full():
            return False
        self._queue.put_nowait(work)
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="shared-cache-backlog")
        return True

    async def settled(self) -> None:
        """Wait until all is done that was handed in."""
        await self._queue.join()

    async def close(self, patience_seconds: float) -> None:
        """Do what is left for so long, then drop it. Idempotent."""
        self._is_closed = True
        if self._worker is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                await self._queue.join()
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._worker = None

    async def _run(self) -> None:
        while True:
            work = await self._queue.get()
            try:
                await work()
            except Exception:  # nobody waits for it: one mistake must not end all that follows
                logger.exception("work in the background failed unexpectedly")
            finally:
                self._queue.task_done()
