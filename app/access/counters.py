"""Counts what is used within a minute, in this process or in a Redis that replicas share.

The package `limits` keeps the numbers; a minute begins with the first use that is counted in it
(a fixed window). `limiter.py` compares them with what keys may use. A Redis that is slow or gone
never costs a request: until it is back, each replica counts by itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

WINDOW_SECONDS = 60
REDIS_SECONDS = 0.5  # the longest that a request waits for Redis
REDIS_REST_SECONDS = 5.0  # how long a Redis that failed is left alone
CLOCK_JITTER_SECONDS = 2.0  # Redis tells what is left of a minute in whole seconds
REDIS_KEY_PREFIX = "beamline:limits"

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A minute that something was counted in."""

    total: int  # counted in it so far
    ends_at: float  # on the wall clock
    is_shared: bool  # whether Redis counts it


class Counters(Protocol):
    """Sums by name, each within its minute."""

    async def add(self, name: str, amount: int) -> Window:
        """Count `amount` and tell the sum."""

    async def take_back(self, name: str, amount: int, window: Window) -> None:
        """Count so much less in a window, if it is not over: then it does not matter any more."""

    async def close(self) -> None:
        """Let go of connections."""


class StoredCounters:
    """Counters in one storage of the package `limits`."""

    def __init__(
        self,
        storage: Storage,
        *,
        pool: ConnectionPool | None = None,  # of Redis, where that is the storage
    ) -> None:
        self._storage = storage
        self._pool = pool

    async def add(self, name: str, amount: int) -> Window:
        """Count in the storage.

        Raises:
            StorageError: Redis does not answer.
        """
        total = await self._storage.incr(name, WINDOW_SECONDS, amount=amount)
        ends_at = await self._storage.get_expiry(name)
        return Window(total=total, ends_at=ends_at, is_shared=self._pool is not None)

    async def take_back(self, name: str, amount: int, window: Window) -> None:
        """Count less in the same window; nothing if another has begun.

        Raises:
            StorageError: Redis does not answer.
        """
        if time.time() >= window.ends_at:  # the clock that the storage goes by
            return
        ends_at = await self._storage.get_expiry(name)
        if abs(ends_at - window.ends_at) <= CLOCK_JITTER_SECONDS:
            await self._storage.incr(name, WINDOW_SECONDS, amount=-amount)

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.disconnect()


class GuardedCounters:
    """Shared counters, and this process's own for as long as the shared ones do not answer."""

    def __init__(
        self,
        shared: Counters,
        own: Counters,
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout_seconds: float = REDIS_SECONDS,
    ) -> None:
        self._shared = shared
        self._own = own
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._rests_until: float | None = None  # after a failure
        self._calls: set[asyncio.Task[Any]] = set()  # those whose caller may have gone

    async def add(self, name: str, amount: int) -> Window:
        """Count in Redis, or here. For a caller that is cancelled nothing is counted in the end."""
        if not self._is_resting():
            call = self._begin(self._in_time(self._shared.add(name, amount)))
            try:
                window = await asyncio.shield(call)
            except (StorageError, TimeoutError) as error:
                self._rest(error)
            except asyncio.CancelledError:
                self._begin(self._undo(call, name, amount))
                raise
            else:
                self._note_answer()
                return window
        return await self._own.add(name, amount)

    async def take_back(self, name: str, amount: int, window: Window) -> None:
        """Count less where it was counted."""
        if not window.is_shared:
            await self._own.take_back(name, amount, window)
        elif not self._is_resting():
            try:
                await self._ask(self._shared.take_back(name, amount, window))
            except (StorageError, TimeoutError) as error:
                self._rest(error)

    async def close(self) -> None:
        """Close both, when what is under way has ended."""
        while self._calls:
            await asyncio.wait(self._calls)
        await self._shared.close()
        await self._own.close()

    async def _ask(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The call's result, within its time.

        A caller that is cancelled must not take the call along: its answer would stay in the
        connection, where the next call would read it as its own.
        """
        return await asyncio.shield(self._begin(self._in_time(call)))

    async def _undo(self, call: asyncio.Task[Window], name: str, amount: int) -> None:
        """Count less what a call counts whose caller has gone: nobody else knows its window."""
        with suppress(StorageError, TimeoutError):
            await self.take_back(name, amount, await call)

    def _begin(self, call: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _in_time(self, call: Coroutine[Any, Any, Result]) -> Result:
        async with asyncio.timeout(self._timeout_seconds):
            return await call

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits for it any more

    def _is_resting(self) -> bool:
        return self._rests_until is not None and self._clock() < self._rests_until

    def _rest(self, error: Exception) -> None:
        if self._rests_until is None:
            logger.warning(
                "Redis does not count rate limits (%s: %s): this replica counts by itself",
                *(type(error).__name__, error),
            )
        self._rests_until = self._clock() + REDIS_REST_SECONDS

    def _note_answer(self) -> None:
        if self._rests_until is not None:
            logger.info("Redis counts rate limits again")
            self._rests_until = None


def build_counters(
    redis_url: str | None, *, clock: Callable[[], float] = time.monotonic
) -> Counters:
    """Counters in Redis with a fallback, or in this process only. Connects when first used."""
    own = StoredCounters(MemoryStorage())
    if redis_url is None:
        return own
    pool = ConnectionPool.from_url(
        redis_url,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    storage = RedisStorage(
        f"async+{redis_url}",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix=REDIS_KEY_PREFIX,
        connection_pool=pool,  # type: ignore[arg-type]  # the package's own documented option
    )
    return GuardedCounters(StoredCounters(storage, pool=pool), own, clock=clock)
