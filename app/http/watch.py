"""Notices when nothing happens for a while. Used by event streams.

A timeout around each step of a stream sets and cancels a timer a token; this one is only looked at
when it might be due, so that telling it of a token costs next to nothing.
"""

import asyncio
from collections.abc import Callable


class Watch:
    """Calls `on_silence` whenever so many seconds pass without `restart`, until it is stopped."""

    def __init__(self, seconds: float, on_silence: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._on_silence = on_silence
        self._since = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    def restart(self) -> None:
        """Something happened."""
        self._since = self._loop.time()

    def stop(self) -> None:
        """Call nothing any more. Idempotent."""
        self._timer.cancel()

    def _look(self) -> None:
        left = self._since + self._seconds - self._loop.time()
        if left <= 0:
            self._since, left = self._loop.time(), self._seconds
            self._on_silence()
        self._timer = self._loop.call_later(left, self._look)
