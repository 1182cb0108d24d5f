"""How soon a request is to be served, and how long it may take. Frozen; no torch.

Part of a `GenerationRequest`. The scheduler keeps the order and the engine the time limits; what a
client may ask for is checked in the app.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Urgency:
    """A priority, and time limits that count from the submission of the request to the engine.

    A request that is not scheduled within its queue time, or not within its whole time, fails with
    `QueueTimedOut`; one whose whole time is up later ends with what it has by then.
    """

    priority: int = 0  # lower goes first
    timeout_seconds: float | None = None  # None: as long as it takes
    queue_timeout_seconds: float | None = None

    @property
    def seconds_to_start(self) -> float | None:
        """How long it may wait for its turn, None: for ever."""
        limits = (self.timeout_seconds, self.queue_timeout_seconds)
        return min((limit for limit in limits if limit is not None), default=None)

    def after(self, seconds: float) -> "Urgency":
        """The same with what is left of its time so much later."""
        return Urgency(
            priority=self.priority,
            timeout_seconds=_left(self.timeout_seconds, seconds),
            queue_timeout_seconds=_left(self.queue_timeout_seconds, seconds),
        )


def _left(limit: float | None, seconds: float) -> float | None:
    return None if limit is None else max(0.0, limit - seconds)


NO_HURRY = Urgency()
