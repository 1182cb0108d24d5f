"""The engine's thread, and the only two ways across it.

In: `submit` and `cancel`, from any thread, through an inbox. Out: `deliver`, called on the engine
thread with all events of a step, and before it with those of requests that need none, since their
time is up or they failed at once; the caller carries them to its own thread. It
takes all events of a call, or raises and takes none: then it gets those of one request at a time,
and a request that it still does not take is cancelled. The thread is not a pool's, whose exit
would wait for an endless job.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from engine.engine import Engine
from engine.errors import EngineClosed, EngineError, QueueFull, StepFailed
from engine.messages import EngineLimits, EngineStats, Event, GenerationRequest

logger = logging.getLogger(__name__)

MAX_FAILED_STEPS = 3  # in a row; then the engine counts as broken
IDLE_SECONDS = 1.0  # between two signs of life of an idle thread


class EngineWorker:
    """Runs an engine on its own thread until it is closed."""

    def __init__(
        self,
        engine: Engine,
        *,
        deliver: Callable[[Sequence[Event]], None],
        max_waiting_requests: int,
    ) -> None:
        self._engine = engine
        self._deliver = deliver
        self._max_waiting_requests = max_waiting_requests
        self._inbox: deque[tuple[GenerationRequest, float]] = deque()  # and when they came
        self._cancelled: deque[str] = deque()
        self._changed = threading.Condition()  # guards inbox, cancelled and is_closing
        self._is_closing = False
        self._num_failed_steps = 0
        self._heartbeat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request; its events follow through `deliver`.

        Raises:
            RequestTooLarge: it could never run.
            QueueFull: as many requests wait as may.
            EngineClosed: the worker is closing, or its thread has died.
        """
        self._engine.check(request)
        with self._changed:
            if self._is_closing or not self._thread.is_alive():
                raise EngineClosed("the engine is not running")
            num_waiting = self.num_waiting
            if num_waiting >= self._max_waiting_requests:
                raise QueueFull(f"{num_waiting} requests are waiting already")
            self._inbox.append((request, self._engine.now))
            self._changed.notify()

    def cancel(self, request_id: str) -> None:
        """Drop a request wherever it is; idempotent. Its events stop within a step."""
        with self._changed:
            self._cancelled.append(request_id)
            self._changed.notify()

    def close(self) -> None:
        """Fail what is left with `EngineClosed` and end the thread. Idempotent."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def num_waiting(self) -> int:
        """Requests that wait for the engine now. Any thread may read it."""
        return len(self._inbox) + self._engine.num_waiting

    @property
    def stats(self) -> EngineStats:
        """The engine's latest snapshot."""
        return self._engine.snapshot

    @property
    def limits(self) -> EngineLimits:
        """What a request must fit into."""
        return self._engine.limits

    @property
    def is_healthy(self) -> bool:
        """Whether the thread runs and its steps succeed."""
        return self._thread.is_alive() and self._num_failed_steps < MAX_FAILED_STEPS

    @property
    def seconds_since_heartbeat(self) -> float:
        """Age of the thread's last sign of life; grows while a step hangs."""
        return time.monotonic() - self._heartbeat

    def _run(self) -> None:
        while self._wait():
            self._deliver_some(self._take_in())
            self._deliver_some(self._step())
        self._deliver_some(self._take_in())
        self._deliver_some(self._engine.fail_all(EngineClosed("the engine is shutting down")))
        self._engine.snapshot = self._engine.stats()

    def _wait(self) -> bool:
        """Wait until there is something to do; False once the worker closes."""
        with self._changed:
            while not (self._inbox or self._cancelled or self._is_closing or self._engine.has_work):
                self._heartbeat = time.monotonic()
                self._changed.wait(IDLE_SECONDS)
            self._heartbeat = time.monotonic()
            return not self._is_closing

    def _take_in(self) -> list[Event]:
        """Hand the engine what came in, and let it end what took too long, before a step."""
        events: list[Event] = []
        with self._changed:
            while self._inbox:
                events += self._engine.add(*self._inbox.popleft())
            while self._cancelled:
                self._engine.cancel(self._cancelled.popleft())
        events += self._engine.end_overdue()
        self._engine.snapshot = self._engine.stats()
        return events

    def _step(self) -> list[Event]:
        num_steps = self._engine.snapshot.num_steps
        try:
            events = self._engine.step()
        except Exception as error:
            self._num_failed_steps += 1
            events = self._engine.fail_running(_as_engine_error(error))
            failed = ", ".join(event.request_id for event in events)
            logger.exception("an engine step failed; it held the requests %s", failed)
            self._engine.snapshot = self._engine.stats()
            return events
        self._engine.snapshot = self._engine.stats()
        if self._engine.snapshot.num_steps > num_steps:  # the model ran, and all went well
            self._num_failed_steps = 0
        return events

    def _deliver_some(self, events: Sequence[Event]) -> None:
        """Hand over a step's events; only a request whose own events are not taken ends."""
        if not events:
            return
        try:
            self._deliver(events)
        except Exception:
            logger.exception("the events of a step were not taken; trying request by request")
            for request_id in dict.fromkeys(event.request_id for event in events):
                self._deliver_one(
                    request_id, [event for event in events if event.request_id == request_id]
                )
            self._engine.snapshot = self._engine.stats()

    def _deliver_one(self, request_id: str, events: Sequence[Event]) -> None:
        try:
            self._deliver(events)
        except Exception:
            logger.exception("request %s is cancelled: its events were not taken", request_id)
            self._engine.cancel(request_id)


def _as_engine_error(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    return StepFailed(f"the model call failed: {type(error).__name__}")
