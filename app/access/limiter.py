"""Holds each key to what it may use in a minute: requests, and tokens.

`meter.py` asks it on behalf of one request. What is refused costs nothing. Whoever reserved more
than was used gives it back; that goes on in the background, since nobody waits for it.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.access.counters import Counters, Window
from app.access.keys import ApiKey
from app.errors import RateLimited
from app.metrics import Metrics


class Unit(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"


STANDING_HEADERS = tuple(
    f"x-ratelimit-{part}-{unit}" for part in ("limit", "remaining", "reset") for unit in Unit
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is left of a key's minute."""

    unit: Unit
    limit: int
    remaining: int
    seconds_left: int  # until all of `limit` may be used again

    def as_headers(self) -> Mapping[str, str]:
        """As OpenAI's API writes it."""
        return {
            f"x-ratelimit-limit-{self.unit}": str(self.limit),
            f"x-ratelimit-remaining-{self.unit}": str(self.remaining),
            f"x-ratelimit-reset-{self.unit}": f"{self.seconds_left}s",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Something that was counted."""

    name: str
    standing: Standing
    window: Window


class RateLimiter:
    """Compares counters with limits. Used on the event loop only."""

    def __init__(self, counters: Counters, metrics: Metrics) -> None:
        self._counters = counters
        self._metrics = metrics
        self._corrections: set[asyncio.Task[None]] = set()

    async def take(self, key: ApiKey, unit: Unit, limit: int, amount: int) -> Charge:
        """Count `amount`, which is at most `limit`.

        Raises:
            RateLimited: it does not fit into what is left of this minute. Nothing is counted.
        """
        name = f"{key.name}:{unit}"
        window = await self._counters.add(name, amount)
        if window.total > limit:
            await self._counters.take_back(name, amount, window)
            self._metrics.rate_limited(key=key.name, unit=unit)
            remaining = limit - (window.total - amount)
            raise LimitReached(self._standing(unit, limit, remaining, window))
        standing = self._standing(unit, limit, limit - window.total, window)
        return Charge(name=name, standing=standing, window=window)

    def give_back(self, charge: Charge, amount: int) -> None:
        """Count `amount` less than was charged, soon."""
        correction = asyncio.create_task(
            self._counters.take_back(charge.name, amount, charge.window)
        )
        self._corrections.add(correction)
        correction.add_done_callback(self._corrections.discard)

    async def settled(self) -> None:
        """Wait until everything is counted as it was used."""
        await asyncio.gather(*self._corrections)

    async def close(self) -> None:
        """Count what is still to be counted, and let go of connections."""
        await self.settled()
        await self._counters.close()

    @staticmethod
    def _standing(unit: Unit, limit: int, remaining: int, window: Window) -> Standing:
        seconds = max(1, math.ceil(window.ends_at - time.time()))
        return Standing(unit=unit, limit=limit, remaining=max(0, remaining), seconds_left=seconds)


class LimitReached(RateLimited):
    """A key has used up its minute; `standing` says what of it."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(
            f"This API key may use {standing.limit} {standing.unit} a minute and has "
            f"{standing.remaining} left; try again in {standing.seconds_left} s.",
            retry_after_seconds=standing.seconds_left,
        )
        self.standing = standing
