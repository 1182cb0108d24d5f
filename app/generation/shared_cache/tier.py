"""The shared tier as the generator sees it: find an answer, keep an answer, forget all.

One lookup for all who ask for the same at a time. Nothing here ever fails a request: a Redis that
is slow, gone, full or full of rubbish costs a miss within a bound. Only answers that are determined
come here, so a hit is what this replica would have computed. Lives on the event loop.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from app.errors import ServiceUnavailable
from app.generation.cache_key import CacheKey
from app.generation.completion import Completed
from app.generation.shared_cache.backlog import Backlog
from app.generation.shared_cache.breaker import BreakerState, CircuitBreaker
from app.generation.shared_cache.counts import Counts, Lookup, Write
from app.generation.shared_cache.digest import KeyDigest
from app.generation.shared_cache.entry import (
    GENERATION_BYTES,
    BadEntry,
    EntryFormat,
    EntryTooLarge,
    Fault,
)
from app.generation.shared_cache.patience import Patience
from app.generation.shared_cache.redis_store import (
    Found,
    RedisStore,
    StoreRefused,
    StoreUnreachable,
)

CLEAR_SECONDS = 2.0  # an operator waits longer than a request
COMPLAINT_SECONDS = 60.0  # between two log lines about what Redis refuses
CLOSE_SECONDS = 1.0  # how long the end of the service waits for what is still to be stored
LARGE_BYTES = 32 * 1024  # an entry that takes about a millisecond to read: not on the event loop

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class _LeftAlone(Exception):
    """Redis is not asked: it has failed a moment ago."""


class _Failed(Exception):
    """Redis was asked in vain."""


class SharedCache:
    """Answers that replicas share. Its own tasks are its only writers besides `clear`."""

    def __init__(  # noqa: PLR0913  (the parts that it joins)
        self,
        *,
        store: RedisStore,
        digest: KeyDigest,
        entries: EntryFormat,
        breaker: CircuitBreaker,
        patience: Patience,
        backlog: Backlog,
        timeout_seconds: float,
        clock: Callable[[], float],
        observe: Callable[[str, float], None],
    ) -> None:
        self.counts = Counts()
        self.on_cleared: Callable[[], None] | None = None  # another replica's operator cleared it
        self._store = store
        self._digest = digest
        self._entries = entries
        self._breaker = breaker
        self._patience = patience
        self._backlog = backlog
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._observe = observe
        self._lookups: dict[CacheKey, asyncio.Task[Completed | None]] = {}
        self._generation: bytes | None = None  # that counted when Redis was last asked
        self._num_clears = 0  # of this replica
        self._may_complain_at = clock()
        self._is_closed = False

    @property
    def breaker(self) -> CircuitBreaker:
        """What keeps requests from a Redis that fails; to be looked at only."""
        return self._breaker

    @property
    def num_pending_writes(self) -> int:
        """Answers that are still to be stored."""
        return self._backlog.num_pending

    async def find(self, key: CacheKey) -> Completed | None:
        """The answer under a key, if some replica has stored it; takes a bounded time.

        Who is cancelled leaves the lookup to those who wait for the same.
        """
        if self._is_closed:
            return None
        task = self._lookups.get(key)
        if task is None:
            task = asyncio.create_task(self._look_up(key), name="shared-cache-lookup")
            self._lookups[key] = task
            task.add_done_callback(lambda _: self._lookups.pop(key, None))
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    def pass_over(self) -> None:
        """A request did without a lookup, since it has waited for others long enough."""
        self.counts.lookups[Lookup.SKIPPED] += 1

    def keep(self, key: CacheKey, completed: Completed) -> None:
        """Store an answer, soon and in the background."""
        if not self._backlog.add(partial(self._write, key, completed)):
            self.counts.writes[Write.DROPPED] += 1

    async def settled(self) -> None:
        """Wait until everything is stored that was to be."""
        await self._backlog.settled()

    async def clear(self) -> None:
        """Forget the answers of all replicas. What is being computed is kept once it is there.

        Raises:
            ServiceUnavailable: Redis does not do it.
        """
        generation = secrets.token_bytes(GENERATION_BYTES)
        try:
            await self._patience.wait(self._store.change_generation(generation), CLEAR_SECONDS)
        except (StoreRefused, StoreUnreachable, TimeoutError) as error:
            raise ServiceUnavailable(
                "This replica's answers are forgotten; those in the shared cache are not, since "
                f"Redis does not answer ({type(error).__name__}). Try again."
            ) from error
        self._num_clears += 1
        self._generation = generation

    async def close(self) -> None:
        """Store what is left, for a moment; then let go of everything. Idempotent."""
        self._is_closed = True
        await self._backlog.close(CLOSE_SECONDS)
        await self._patience.close()
        lookups = list(self._lookups.values())
        await asyncio.gather(*lookups, return_exceptions=True)
        await self._store.close()

    async def _look_up(self, key: CacheKey) -> Completed | None:
        began_at = self._clock()
        outcome, completed = await self._search(key)
        self.counts.lookups[outcome] += 1
        if outcome is not Lookup.SKIPPED:
            self._observe("lookup", self._clock() - began_at)
        return completed

    async def _search(self, key: CacheKey) -> tuple[Lookup, Completed | None]:
        digest, num_clears = self._digest(key), self._num_clears
        own = self._generation or secrets.token_bytes(GENERATION_BYTES)
        try:
            found = await self._ask(
                partial(self._store.read, digest, max_bytes=self._entries.max_bytes, generation=own)
            )
        except _LeftAlone:
            return Lookup.SKIPPED, None
        except _Failed:
            return Lookup.ERROR, None
        if num_clears != self._num_clears:  # what was read may be what has just been forgotten
            return Lookup.MISS, None
        self._note_generation(found.generation)
        try:
            completed = await self._read(digest, found)
        except BadEntry as error:
            self._reject(digest, error.fault)
            return Lookup.MISS, None
        return Lookup.MISS if completed is None else Lookup.HIT, completed

    async def _read(self, digest: bytes, found: Found) -> Completed | None:
        if not found.is_string:
            raise BadEntry(Fault.WRONG_TYPE)
        if not found.value:
            return None
        decode = partial(
            self._entries.decode, found.value, digest=digest, generation=found.generation
        )
        if len(found.value) > LARGE_BYTES:
            return await asyncio.to_thread(decode)
        return decode()

    def _reject(self, digest: bytes, fault: Fault) -> None:
        self.counts.faults[fault] += 1
        logger.warning("an entry of the shared cache is not ours (%s); removing it", fault)
        self._backlog.add(partial(self._remove, digest))

    def _note_generation(self, generation: bytes) -> None:
        """Follow a replica that was told to forget; what is known here is forgotten as well."""
        if self._generation is not None and generation != self._generation:
            logger.info("the shared cache was cleared; so is this replica's own")
            if self.on_cleared is not None:
                self.on_cleared()
        self._generation = generation

    async def _write(self, key: CacheKey, completed: Completed) -> None:
        began_at = self._clock()
        outcome = await self._store_one(key, completed)
        self.counts.writes[outcome] += 1
        if outcome in (Write.STORED, Write.ERROR):
            self._observe("write", self._clock() - began_at)

    async def _store_one(self, key: CacheKey, completed: Completed) -> Write:
        generation = self._generation
        if generation is None or self._breaker.state is not BreakerState.CLOSED:
            return Write.SKIPPED  # lookups find out when it answers again
        digest = self._digest(key)
        encode = partial(self._entries.encode, digest=digest, generation=generation)
        try:
            entry = await asyncio.to_thread(encode, completed)
            await self._ask(partial(self._store.write, digest, entry))
        except EntryTooLarge:
            return Write.TOO_LARGE
        except _LeftAlone:
            return Write.SKIPPED
        except _Failed:
            return Write.ERROR
        return Write.STORED

    async def _remove(self, digest: bytes) -> None:
        try:
            await self._ask(partial(self._store.remove, digest))
        except (_LeftAlone, _Failed):
            return  # the next answer takes its place, or its next reader tries again

    async def _ask(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Ask Redis, if it is not left alone, within the time that a request has for it.

        Raises:
            _LeftAlone, _Failed
        """
        permit = self._breaker.enter()
        if permit is None:
            raise _LeftAlone
        try:
            result = await self._patience.wait(call(), self._timeout_seconds)
        except StoreRefused as error:  # which is an answer
            self._breaker.succeeded(permit)
            self._complain(str(error))
            raise _Failed from error
        except (StoreUnreachable, TimeoutError) as error:
            self._breaker.failed(permit, str(error))
            raise _Failed from error
        except BaseException:  # cancelled, when the service ends: a probe must not stay open
            self._breaker.failed(permit, "given up")
            raise
        self._breaker.succeeded(permit)
        return result

    def _complain(self, complaint: str) -> None:
        now = self._clock()
        if now >= self._may_complain_at:
            self._may_complain_at = now + COMPLAINT_SECONDS
            logger.warning("Redis refuses what the shared cache asks: %s", complaint)
