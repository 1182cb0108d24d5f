"""The fields that say how soon a request is to be served, and how long it may take.

Bodies of generations extend it. What this server allows is checked in `app/generation/urgency.py`.
"""

from typing import Annotated

from pydantic import Field

from app.bodies.strict_model import StrictModel
from engine.urgency import Urgency

MAX_SECONDS = 86_400.0
MAX_PRIORITY = 1000  # by default a head start of 17 hours: nobody waits for ever

Seconds = Annotated[float, Field(gt=0.0, le=MAX_SECONDS)]


class UrgencyFields(StrictModel):
    """Time limits and priority of a request."""

    timeout: Seconds | None = Field(
        default=None,
        description="Seconds that the request may take in all. When they are over, it is answered "
        "with what there is, and what has not ended has finish_reason `timeout`; a request that "
        "was not begun by then fails with a 503, code `queue_timeout`.",
    )
    queue_timeout: Seconds | None = Field(
        default=None,
        description="Seconds that the request may wait before it is begun; then it fails with a "
        "503, code `queue_timeout`, and nothing is generated.",
    )
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = Field(
        default=0,
        description="Who goes first when requests wait, and keeps its room when memory runs out: "
        "lower is earlier. A bounded head start: each step counts as so many seconds of waiting.",
    )

    def as_urgency(self) -> Urgency:
        """The same for the engine."""
        return Urgency(
            priority=self.priority,
            timeout_seconds=self.timeout,
            queue_timeout_seconds=self.queue_timeout,
        )
