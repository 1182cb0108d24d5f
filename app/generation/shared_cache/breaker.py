"""A circuit breaker: leaves something alone that keeps failing, and tries it again later.

Closed, everybody may pass. After some failures in a row it opens, and nobody may until a rest is
over; then it is half open, and one may pass to find out. A probe that fails makes the next rest
twice as long. Lives on the event loop; knows nothing of what it guards.
"""

import logging
from collections.abc import Callable
from enum import StrEnum

NUM_FAILURES = 5  # in a row, until it opens
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 30.0

logger = logging.getLogger(__name__)


class BreakerState(StrEnum):
    """Who may pass."""

    CLOSED = "closed"  # everybody
    OPEN = "open"  # nobody
    HALF_OPEN = "half_open"  # one, who finds out


class CircuitBreaker:
    """Written to by those who pass, each of whom tells how it went with the permit it got."""

    def __init__(
        self,
        guarded: str,  # what log lines call it
        *,
        clock: Callable[[], float],
        num_failures: int = NUM_FAILURES,
        first_rest_seconds: float = FIRST_REST_SECONDS,
        longest_rest_seconds: float = LONGEST_REST_SECONDS,
    ) -> None:
        self._guarded = guarded
        self._clock = clock
        self._max_failures = num_failures
        self._first_rest_seconds = first_rest_seconds
        self._longest_rest_seconds = longest_rest_seconds
        self._state = BreakerState.CLOSED
        self._num_failures = 0
        self._rest_seconds = first_rest_seconds
        self._rests_until = 0.0
        self._permit = 0  # grows with every change of state: what older ones tell is out of date
        self._num_opened = 0

    @property
    def state(self) -> BreakerState:
        """Who may pass now; a rest that is over still counts as open until somebody asks."""
        return self._state

    @property
    def num_opened(self) -> int:
        """How often it has opened, failed probes included."""
        return self._num_opened

    def enter(self) -> int | None:
        """A permit, to be given back with `succeeded` or `failed`; None: not now."""
        if self._state is BreakerState.CLOSED:
            return self._permit
        if self._state is BreakerState.HALF_OPEN or self._clock() < self._rests_until:
            return None
        self._become(BreakerState.HALF_OPEN)
        logger.info("trying whether %s answers again", self._guarded)
        return self._permit

    def succeeded(self, permit: int) -> None:
        """Who had this permit got an answer."""
        if permit != self._permit:
            return
        self._num_failures = 0
        if self._state is BreakerState.HALF_OPEN:
            self._rest_seconds = self._first_rest_seconds
            self._become(BreakerState.CLOSED)
            logger.info("%s answers again", self._guarded)

    def failed(self, permit: int, reason: str) -> None:
        """Who had this permit got none."""
        if permit != self._permit:
            return
        self._num_failures += 1
        if self._state is BreakerState.HALF_OPEN:
            self._rest_seconds = min(2 * self._rest_seconds, self._longest_rest_seconds)
            self._open()
            logger.info(
                "%s does not answer yet (%s): left alone for %g s",
                *(self._guarded, reason, self._rest_seconds),
            )
        elif self._num_failures >= self._max_failures:
            self._open()
            logger.warning(
                "%s does not answer (%s): left alone for %g s; answers are computed here",
                *(self._guarded, reason, self._rest_seconds),
            )

    def _open(self) -> None:
        self._num_failures = 0
        self._num_opened += 1
        self._rests_until = self._clock() + self._rest_seconds
        self._become(BreakerState.OPEN)

    def _become(self, state: BreakerState) -> None:
        self._state = state
        self._permit += 1
