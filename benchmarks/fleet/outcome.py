"""What came of a load: times, refusals, use and price."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A request that was answered. Times are in seconds since the load began."""

    arrived_at: float
    begun_at: float  # when its prompt was begun
    first_token_at: float
    ended_at: float
    new_tokens: int

    @property
    def queue_seconds(self) -> float:
        """From its arrival until it was begun."""
        return self.begun_at - self.arrived_at

    @property
    def first_token_seconds(self) -> float:
        """From its arrival to its first token."""
        return self.first_token_at - self.arrived_at

    @property
    def whole_seconds(self) -> float:
        """From its arrival to its end."""
        return self.ended_at - self.arrived_at


Measure = Callable[[Served], float]
MEASURES: dict[str, Measure] = {
    "queue": lambda served: served.queue_seconds,
    "first token": lambda served: served.first_token_seconds,
    "whole answer": lambda served: served.whole_seconds,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A load, served to its end."""

    served: Sequence[Served]
    num_refused: int
    seconds: float
    num_replicas: int
    busy_seconds: float  # of all replicas together

    @property
    def num_requests(self) -> int:
        """All that came."""
        return len(self.served) + self.num_refused

    @property
    def refused_share(self) -> float:
        """Of all that came, 0 to 1."""
        return self.num_refused / max(self.num_requests, 1)

    @property
    def use(self) -> float:
        """Share of the time in which a replica computes, 0 to 1."""
        return self.busy_seconds / max(self.seconds * self.num_replicas, 1e-12)

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all answers over the whole time."""
        return sum(each.new_tokens for each in self.served) / max(self.seconds, 1e-12)

    def percentile(self, measure: str, percent: float) -> float:
        """Seconds that so many percent of the answers do not exceed; infinite without answers."""
        ranked = sorted(map(MEASURES[measure], self.served))
        place = max(math.ceil(percent / 100 * len(ranked)), 1) - 1
        return ranked[place] if ranked else math.inf

    def mean(self, measure: str) -> float:
        """Mean seconds."""
        return sum(map(MEASURES[measure], self.served)) / max(len(self.served), 1)

    def price_per_million_tokens(self, replica_hour: float) -> float:
        """What a million new tokens cost, if an hour of a replica costs so much."""
        hours = 1e6 / max(self.tokens_per_second, 1e-12) / SECONDS_PER_HOUR
        return replica_hour * self.num_replicas * hours
