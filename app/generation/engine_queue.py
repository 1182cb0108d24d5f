"""The way into the engine: submits, and when the queue is full says how long it will take.

The text generator and the judge submit through it and tell it of each request that has left the
engine. How long a new one would wait is the queue's length over the rate at which requests have
been leaving of late: a guess that a client can act on, where a fixed number would send all of
them back at once to a server that is still busy. Lives on the event loop.
"""

import math
from collections import deque
from collections.abc import Callable

from app.errors import Overloaded
from engine.errors import QueueFull
from engine.messages import GenerationRequest
from engine.worker import EngineWorker

WINDOW_SECONDS = 30.0  # how far back the rate is measured
MAX_NOTED = 4096  # ends remembered; enough for a rate, however busy
MAX_RETRY_SECONDS = 60
UNMEASURED_SECONDS = 5  # nothing has left yet


class EngineQueue:
    """One engine's queue, and when requests left it."""

    def __init__(self, worker: EngineWorker, clock: Callable[[], float]) -> None:
        self._worker = worker
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=MAX_NOTED)

    def submit(self, request: GenerationRequest) -> None:
        """Hand a request to the engine; its events follow.

        Raises:
            Overloaded: as many wait as may; says when to try again.
            EngineError: it could never run, or the engine is not running.
        """
        try:
            self._worker.submit(request)
        except QueueFull as error:
            seconds = self.expected_seconds(self._worker.num_waiting)
            raise Overloaded(
                f"Too many requests are waiting; try again in {seconds} s.", seconds
            ) from error

    def note_end(self) -> None:
        """A request has left the engine, finished or not: another one moves up."""
        self._ends.append(self._clock())

    def expected_seconds(self, num_waiting: int) -> int:
        """How long a queue of this length takes, in whole seconds; at least one, at most a minute.

        A server where nothing has left for so long takes longer than anybody can tell.
        """
        if not self._ends:
            return UNMEASURED_SECONDS
        now = self._clock()
        while self._ends and self._ends[0] < now - WINDOW_SECONDS:
            self._ends.popleft()
        if not self._ends:
            return MAX_RETRY_SECONDS
        measured_seconds = max(now - self._ends[0], 1.0)
        expected = math.ceil(num_waiting * measured_seconds / len(self._ends))
        return min(max(expected, 1), MAX_RETRY_SECONDS)
