"""What one HTTP request takes of its key's minute.

The door makes one for each request that brings a key and counts the request; the text generator
reserves the tokens that an answer may take, and settles for those that it took.
"""

from app.access.keys import ApiKey
from app.access.limiter import Charge, LimitReached, RateLimiter, Standing, Unit
from app.errors import InvalidRequest
from app.metrics import Metrics


class Reservation:
    """Tokens set aside for one text. Settle it, whatever happens."""

    def __init__(self, meter: "Meter", num_tokens: int, charge: Charge | None) -> None:
        self._meter = meter
        self._num_tokens = num_tokens
        self._charge = charge  # None: the key's tokens are not limited
        self._is_settled = False

    def settle(self, num_tokens: int) -> None:
        """So many tokens were used; the rest is the key's again. Idempotent, never blocks."""
        if self._is_settled:
            return
        self._is_settled = True
        self._meter.count(num_tokens, self._num_tokens, self._charge)


class Meter:
    """One request of one key. Used on the event loop only."""

    def __init__(self, key: ApiKey, limiter: RateLimiter, metrics: Metrics) -> None:
        self.key = key
        self._limiter = limiter
        self._metrics = metrics
        self._standings: dict[Unit, Standing] = {}

    async def take_request(self) -> None:
        """Count the request itself.

        Raises:
            RateLimited: the key has used up its requests.
        """
        limit = self.key.limits.requests_per_minute
        if limit is not None:
            await self._take(Unit.REQUESTS, limit, 1)

    async def reserve(self, num_tokens: int, *, param: str | None) -> Reservation:
        """Set tokens aside: as many as a text may take at most.

        Raises:
            InvalidRequest: the key may never use so many at once; names `param`.
            RateLimited: it may not now.
        """
        limit = self.key.limits.tokens_per_minute
        if limit is None:
            return Reservation(self, num_tokens, None)
        if num_tokens > limit:
            raise InvalidRequest(
                f"This text may take {num_tokens} tokens, prompt included, and this API key may "
                f"use {limit} a minute; ask for fewer.",
                param=param,
                code="token_limit_exceeded",
            )
        return Reservation(self, num_tokens, await self._take(Unit.TOKENS, limit, num_tokens))

    def count(self, num_used: int, num_reserved: int, charge: Charge | None) -> None:
        """Settle a reservation."""
        self._metrics.key_tokens(self.key.name, num_used)
        if charge is not None and num_used < num_reserved:
            self._limiter.give_back(charge, num_reserved - num_used)

    def headers(self) -> dict[str, str]:
        """What is left of the key's minute, as far as this request has asked."""
        return {
            name: value
            for standing in self._standings.values()
            for name, value in standing.as_headers().items()
        }

    async def _take(self, unit: Unit, limit: int, amount: int) -> Charge:
        try:
            charge = await self._limiter.take(self.key, unit, limit, amount)
        except LimitReached as refusal:
            self._standings[unit] = refusal.standing
            raise
        self._standings[unit] = charge.standing
        return charge
