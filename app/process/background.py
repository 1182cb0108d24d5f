"""Runs slow blocking work beside the event loop, in a thread that never holds up the exit.

The lifespan uses it to load a model and to close the engine: neither can be interrupted, and a
pool's thread would be waited for at exit. Short work on text belongs to `app/text/executor.py`.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def run_in_thread(work: Callable[[], Result], *, name: str) -> asyncio.Future[Result]:
    """Start `work` in a daemon thread; the future holds its result or what it raised.

    Cancelling the future abandons the thread: it runs on, and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only beside an error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - handed on through the future
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
