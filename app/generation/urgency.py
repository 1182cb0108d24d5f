"""What this server allows of priorities and time limits, and what it gives who asks for none.

Built from the settings; `TextGenerator` applies it to each request before anything is done for it.
"""

from dataclasses import dataclass

from app.errors import InvalidRequest
from engine.urgency import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class UrgencyRules:
    """Bounds and defaults. None: there is none."""

    timeout_seconds: float | None = None  # of requests that name none
    max_timeout_seconds: float | None = None  # of all
    queue_timeout_seconds: float | None = None  # of requests that name none
    min_priority: int | None = None  # the most urgent that a request may ask for

    def apply(self, asked: Urgency) -> Urgency:
        """What is asked for, with this server's defaults where it says nothing.

        Raises:
            InvalidRequest: it is more than this server allows; names the field and the limit.
        """
        timeout, longest = asked.timeout_seconds, self.max_timeout_seconds
        if timeout is not None and longest is not None and timeout > longest:
            raise InvalidRequest(
                f"This server gives a request {longest:g} seconds at most; ask for no more.",
                param="timeout",
            )
        if self.min_priority is not None and asked.priority < self.min_priority:
            raise InvalidRequest(
                f"The most urgent priority that this server allows is {self.min_priority}; ask for "
                "that or a higher number.",
                param="priority",
            )
        waiting = asked.queue_timeout_seconds
        return Urgency(
            priority=asked.priority,
            timeout_seconds=_first(timeout, self.timeout_seconds, longest),
            queue_timeout_seconds=_first(waiting, self.queue_timeout_seconds),
        )


NO_RULES = UrgencyRules()


def _first(*limits: float | None) -> float | None:
    return next((limit for limit in limits if limit is not None), None)
