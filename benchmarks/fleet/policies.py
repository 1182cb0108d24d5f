"""Which replica a request goes to. `simulation.py` asks one for each request."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.fleet.workload import Arrival


class Loaded(Protocol):
    """What a policy may know of a replica."""

    @property
    def num_requests(self) -> int:
        """Requests at work and waiting."""
        ...


class Policy(Protocol):
    """Chooses the place of a replica in the list."""

    def choose(self, arrival: Arrival, replicas: Sequence[Loaded]) -> int:
        """The place of the one that gets it."""
        ...


@dataclass(slots=True)
class RoundRobin:
    """One after the other, whatever they have to do."""

    _next: int = 0

    def choose(self, _arrival: Arrival, replicas: Sequence[Loaded]) -> int:
        """The next."""
        chosen = self._next % len(replicas)
        self._next = chosen + 1
        return chosen


@dataclass(slots=True)
class LeastLoaded:
    """The one with the fewest requests; of several the one after the last chosen."""

    _last: int = -1

    def choose(self, _arrival: Arrival, replicas: Sequence[Loaded]) -> int:
        """The least loaded."""
        number = len(replicas)
        order = [(self._last + 1 + step) % number for step in range(number)]
        self._last = min(order, key=lambda at: replicas[at].num_requests)
        return self._last


@dataclass(slots=True)
class TwoChoices:
    """The less loaded of two drawn ones, as Ray Serve by default: nearly as good, and no search."""

    seed: int = 0
    _source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._source = random.Random(self.seed)

    def choose(self, _arrival: Arrival, replicas: Sequence[Loaded]) -> int:
        """One of the two."""
        one, other = (self._source.randrange(len(replicas)) for _ in range(2))
        return min(one, other, key=lambda at: replicas[at].num_requests)


@dataclass(slots=True)
class Affinity:
    """The one that its beginning belongs to, unless that has `max_lead` more than the least loaded.

    As `deploy/ray/router.py` does it.
    """

    max_lead: int = 16
    _others: LeastLoaded = field(default_factory=LeastLoaded)

    def choose(self, arrival: Arrival, replicas: Sequence[Loaded]) -> int:
        """The home of the beginning, or the least loaded."""
        least = self._others.choose(arrival, replicas)
        if arrival.prefix is None:
            return least
        home = _home(arrival.prefix, len(replicas))
        lead = replicas[home].num_requests - replicas[least].num_requests
        return home if lead <= self.max_lead else least


def _home(prefix: int, num_replicas: int) -> int:
    return prefix * 2_654_435_761 % 2**32 % num_replicas  # Knuth's: spreads neighbours


POLICIES: dict[str, Callable[[], Policy]] = {
    "round-robin": RoundRobin,
    "least-loaded": LeastLoaded,
    "two-choices": TwoChoices,
    "affinity": Affinity,
}
