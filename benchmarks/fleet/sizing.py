"""The fewest replicas that keep a promise, by simulating fleets of several sizes."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fleet.outcome import Outcome

MOST_REPLICAS = 1 << 16
IDLE = 0.05  # of use: more replicas would make nothing faster


class CannotKeep(ValueError):
    """No number of replicas keeps the promise: a single request alone takes too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a fleet must keep."""

    measure: str  # of `outcome.MEASURES`
    seconds: float
    percent: float = 95.0
    refused_share: float = 0.001

    def is_kept(self, outcome: Outcome) -> bool:
        """Whether a run kept it."""
        return (
            outcome.refused_share <= self.refused_share
            and outcome.percentile(self.measure, self.percent) <= self.seconds
        )


def fewest_replicas(run: Callable[[int], Outcome], promise: Promise) -> Outcome:
    """The outcome of the smallest fleet that keeps it, found by doubling and halving.

    Raises:
        CannotKeep: none does.
    """
    low, high = 0, 1
    while not promise.is_kept(outcome := run(high)):
        low, high = high, high * 2
        if high > MOST_REPLICAS or outcome.use < IDLE:
            raise CannotKeep(
                f"{outcome.num_replicas} replicas, {outcome.use:.0%} in use, are too slow for a "
                f"{promise.measure} within {promise.seconds:g} s"
            )
    best = outcome
    while high - low > 1:
        middle = (low + high) // 2
        outcome = run(middle)
        if promise.is_kept(outcome):
            best, high = outcome, middle
        else:
            low = middle
    return best
