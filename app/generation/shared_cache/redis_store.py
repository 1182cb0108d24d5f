"""Entries in Redis: one string a key, and one that says which generation of them counts.

Two round trips at most for whatever is asked. Entries are forgotten all at once by changing the
generation, without looking for them: those of another generation are misses, and expire. Knows
neither what entries hold nor how long anybody waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.generation.shared_cache.entry import GENERATION_BYTES

NUM_CONNECTIONS = 16
WRONG_TYPE = "WRONGTYPE"
REASON_CHARACTERS = 160


class StoreUnreachable(Exception):
    """Redis gives no answer."""


class StoreRefused(Exception):
    """Redis answers, and says no: its memory is full, or this user may not do that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is stored under a name; nothing is empty."""

    generation: bytes  # that counts now
    value: bytes  # longer than was asked for, by one byte, if there is more
    is_string: bool = True  # False: something else is there, which cannot be read


class RedisStore:
    """Reads, writes and removes entries; each call raises `StoreUnreachable` or `StoreRefused`."""

    def __init__(self, pool: BlockingConnectionPool, *, prefix: str, ttl_seconds: float) -> None:
        self._pool = pool
        self._redis: Redis = Redis(connection_pool=pool)
        self._prefix = prefix
        self._ttl_milliseconds = max(1, round(1000 * ttl_seconds))
        self._generation_name = f"{prefix}:generation"

    async def read(self, digest: bytes, *, max_bytes: int, generation: bytes) -> Found:
        """What is stored under a digest; `generation` counts from now on if none does."""
        with _in_our_words():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.get(self._generation_name)
            pipeline.getrange(self._name(digest), 0, max_bytes)
            known, value = await pipeline.execute(raise_on_error=False)
            is_string = not _is_wrong_type(value)
            if is_string and isinstance(value, Exception):
                raise value
            if not _is_generation(known):
                known = await self._begin(generation)
        return Found(generation=known, value=value if is_string else b"", is_string=is_string)

    async def write(self, digest: bytes, value: bytes) -> None:
        """Store a value; it expires."""
        with _in_our_words():
            await self._redis.set(self._name(digest), value, px=self._ttl_milliseconds)

    async def remove(self, digest: bytes) -> None:
        """Forget what is stored under a digest, whatever it is."""
        with _in_our_words():
            await self._redis.delete(self._name(digest))

    async def change_generation(self, generation: bytes) -> None:
        """Have another generation count, and so no entry that is there."""
        with _in_our_words():
            await self._redis.set(self._generation_name, generation)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _begin(self, generation: bytes) -> bytes:
        """The generation that counts where none did: of several replicas' the first one's."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(self._generation_name, generation, nx=True)
        pipeline.get(self._generation_name)
        _, known = await pipeline.execute(raise_on_error=False)
        if isinstance(known, bytes) and _is_generation(known):
            return known
        await self._redis.set(self._generation_name, generation)  # something else was there
        return generation

    def _name(self, digest: bytes) -> str:
        return f"{self._prefix}:{digest.hex()}"


def open_store(url: str, *, prefix: str, ttl_seconds: float, longest_seconds: float) -> RedisStore:
    """A store that connects when it is first used.

    Args:
        url: of Redis; what it says besides goes to the connections.
        prefix: what all names begin with.
        ttl_seconds: how long an entry is kept.
        longest_seconds: how long anything at all may take.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=NUM_CONNECTIONS,
        timeout=longest_seconds,
        socket_timeout=longest_seconds,
        socket_connect_timeout=longest_seconds,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # which every Redis and every proxy before one speaks
    )
    return RedisStore(pool, prefix=prefix, ttl_seconds=ttl_seconds)


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Whatever the client fails with; what it says may quote what was sent, and that is left out.

    It also lets through what it meets in sockets, TLS and replies that make no sense.
    """
    try:
        yield
    except ResponseError as error:
        raise StoreRefused(_reason(error)) from error
    except (RedisError, OSError, EOFError, ValueError, RuntimeError) as error:
        raise StoreUnreachable(_reason(error)) from error


def _reason(error: Exception) -> str:
    said = str(error).partition(", with args")[0][:REASON_CHARACTERS]
    return f"{type(error).__name__}: {said}"


def _is_generation(found: object) -> bool:
    return isinstance(found, bytes) and len(found) == GENERATION_BYTES


def _is_wrong_type(found: object) -> bool:
    return isinstance(found, ResponseError) and str(found).startswith(WRONG_TYPE)
