"""Measures by how much the event loop is late, which every request then is.

The lifespan starts one beside the service and closes it at the end. It is a timer, not a task:
nothing waits for it, and it never outlives the loop.
"""

import asyncio
from collections.abc import Callable

INTERVAL_SECONDS = 0.25


class LoopWatch:
    """A timer that comes again and again. Written on the event loop only."""

    def __init__(self, *, observe: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._observe = observe
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure from now on, until `close`."""
        due = self._clock() + INTERVAL_SECONDS
        self._timer = loop.call_later(INTERVAL_SECONDS, self._ring, loop, due)

    def close(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(self._clock() - due, 0.0))
        self.start(loop)
