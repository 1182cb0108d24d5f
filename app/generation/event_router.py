"""Hands the engine's events to those who wait for them. Lives on the event loop.

The engine thread delivers all events of a step in one call; the lifespan carries them over to
`EventRouter.dispatch`. Flights register under their request id. Late events find nobody and drop.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from engine.messages import Event

logger = logging.getLogger(__name__)


class EventListener(Protocol):
    """Somebody who waits for the events of one request."""

    def receive(self, event: Event) -> None:
        """Take the next event."""

    def fail(self, error: Exception) -> None:
        """Taking an event raised this; end with it."""


class EventRouter:
    """Listeners by request id. Only the event loop reads and writes it."""

    def __init__(self) -> None:
        self._listeners: dict[str, EventListener] = {}

    def register(self, request_id: str, listener: EventListener) -> None:
        """Send the events of this request to `listener` from now on."""
        self._listeners[request_id] = listener

    def unregister(self, request_id: str) -> None:
        """Send it nothing more. Idempotent."""
        self._listeners.pop(request_id, None)

    def dispatch(self, events: Sequence[Event]) -> None:
        """Deliver the events of a step, in order."""
        for event in events:
            listener = self._listeners.get(event.request_id)
            if listener is not None:
                _deliver(event, listener)


def _deliver(event: Event, listener: EventListener) -> None:
    try:
        listener.receive(event)
    except Exception as error:  # one broken listener must not cost the others their events
        logger.exception("an event of request %s could not be taken", event.request_id)
        listener.fail(error)
