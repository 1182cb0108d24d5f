"""What an engine worker delivers, kept under a condition that tests wait on instead of sleeping."""

import threading
from collections.abc import Callable, Sequence

from engine.messages import Event, RequestFailed, RequestFinished

PATIENCE_SECONDS = 30.0  # only ever spent by a test that fails


class Deliveries:
    """Collects events on the engine thread; tests wait on their own."""

    def __init__(self) -> None:
        self.batches: list[tuple[Event, ...]] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, events: Sequence[Event]) -> None:
        """Take one step's events."""
        with self._changed:
            self.batches.append(tuple(events))
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    @property
    def ended(self) -> dict[str, RequestFinished | RequestFailed]:
        """The last event of every request that has ended."""
        with self._changed:
            return self._ended()

    def of(self, request_id: str) -> list[Event]:
        """All events of a request so far."""
        with self._changed:
            events = [event for batch in self.batches for event in batch]
        return [event for event in events if event.request_id == request_id]

    def wait_for_end(self, *request_ids: str) -> None:
        """Wait until these requests have ended."""
        self._wait(lambda: self._ended().keys() >= set(request_ids))

    def wait_for_event(self, request_id: str) -> None:
        """Wait for a request's first event."""
        self._wait(lambda: any(e.request_id == request_id for batch in self.batches for e in batch))

    def _wait(self, is_there: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_there, PATIENCE_SECONDS), "nothing came"

    def _ended(self) -> dict[str, RequestFinished | RequestFailed]:
        return {
            event.request_id: event
            for batch in self.batches
            for event in batch
            if isinstance(event, RequestFinished | RequestFailed)
        }


class Gate:
    """Holds the engine thread inside its forwards until it is opened."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def __call__(self, _: object) -> None:
        """Stands as `HashRunner.before_forward`."""
        self._entered.set()
        assert self._opened.wait(PATIENCE_SECONDS), "the gate was never opened"

    def wait_until_entered(self) -> None:
        """Wait until a forward is held."""
        assert self._entered.wait(PATIENCE_SECONDS), "no forward came"

    def open(self) -> None:
        """Let this forward and all later ones go on."""
        self._opened.set()
