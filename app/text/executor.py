"""A bounded thread pool for work on text that would hold up the event loop.

Tokenising a long prompt or rendering a chat template takes milliseconds; `TextGenerator` sends
it here. Beyond the bound work is refused rather than queued without end. Not for endless work.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.errors import TextQueueFull

Result = TypeVar("Result")


class TextExecutor:
    """Runs functions on `num_threads` threads, at most `max_pending` of them at a time.

    Pending counts the running ones too, also those whose caller has gone: their thread is busy.
    """

    def __init__(self, num_threads: int, max_pending: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="text")
        self._max_pending = max_pending
        self._places = threading.BoundedSemaphore(max_pending)

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, called on a thread of the pool.

        Raises:
            TextQueueFull: as much work is pending as may be, or the pool is closed.
        """
        if not self._places.acquire(blocking=False):
            raise TextQueueFull(f"{self._max_pending} texts are being tokenised; try again.")
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:  # shut down
            self._places.release()
            raise TextQueueFull("The service is stopping.") from error
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and let the threads end. Idempotent; does not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)
