"""Ends work for a client that has hung up.

Frameworks cancel a streaming response when its client goes, but let a plain endpoint run to its
end for nobody. Routes wrap what they await in `run_until_disconnect`; the event stream does too.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from app.errors import ClientDisconnected

Result = TypeVar("Result")


async def run_until_disconnect(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled as soon as `receive` tells of a disconnect.

    The request's body must have been read: only its end or a disconnect may follow.

    Raises:
        ClientDisconnected: the client went first; `work` has been cancelled and has ended.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        watcher.result()  # a connection that breaks while it is watched says so here
        raise ClientDisconnected("The client closed the connection.")
    finally:
        await _cancel(task, watcher)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has let go of what it holds."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
