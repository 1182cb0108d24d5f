"""What the shared tier counts, for `GET /metrics` and `GET /admin/cache`."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from app.generation.shared_cache.entry import Fault


class Lookup(StrEnum):
    """How a lookup went. There is one for each generation that the memory tier does not spare."""

    HIT = "hit"
    MISS = "miss"  # not there, forgotten, or damaged
    ERROR = "error"  # Redis failed, or not in time
    SKIPPED = "skipped"  # Redis was not asked: it is left alone, or a list has waited enough


class Write(StrEnum):
    """How it went to store an answer."""

    STORED = "stored"
    ERROR = "error"
    SKIPPED = "skipped"  # Redis is left alone
    DROPPED = "dropped"  # too many waited
    TOO_LARGE = "too_large"


@dataclass(slots=True)
class Counts:
    """Totals since the start. Written on the event loop by the tier."""

    lookups: Counter[Lookup] = field(default_factory=Counter)
    writes: Counter[Write] = field(default_factory=Counter)
    faults: Counter[Fault] = field(default_factory=Counter)  # entries that were not ours
