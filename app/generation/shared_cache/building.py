"""The shared tier as the settings describe it. The composition root calls it."""

from collections.abc import Callable

from app.generation.shared_cache.backlog import Backlog
from app.generation.shared_cache.breaker import CircuitBreaker
from app.generation.shared_cache.digest import KeyDigest
from app.generation.shared_cache.entry import EntryFormat
from app.generation.shared_cache.patience import Patience
from app.generation.shared_cache.redis_store import open_store
from app.generation.shared_cache.tier import SharedCache
from app.settings import Settings

LONGEST_SECONDS = 1.0  # that a call goes on, though nobody waits: long enough to connect by TLS
MAX_PENDING_WRITES = 64


def build_shared_cache(
    settings: Settings, *, clock: Callable[[], float], observe: Callable[[str, float], None]
) -> SharedCache | None:
    """What the settings ask for; connects when it is first used. None: answers are not shared.

    Args:
        settings: those of the service.
        clock: monotonic, in seconds.
        observe: told what was done in Redis, and for how many seconds.
    """
    if settings.cache_redis is None:
        return None
    longest = max(LONGEST_SECONDS, settings.cache_redis_timeout_seconds)
    given = settings.cache_redis_secret
    secret = None if given is None else given.get_secret_value().encode()
    return SharedCache(
        store=open_store(
            settings.cache_redis,
            prefix=settings.cache_redis_prefix,
            ttl_seconds=settings.cache_redis_ttl_seconds,
            longest_seconds=longest,
        ),
        digest=KeyDigest(secret),
        entries=EntryFormat(secret=secret, max_bytes=settings.cache_redis_entry_bytes),
        breaker=CircuitBreaker("the shared cache", clock=clock),
        patience=Patience(longest),
        backlog=Backlog(MAX_PENDING_WRITES),
        timeout_seconds=settings.cache_redis_timeout_seconds,
        clock=clock,
        observe=observe,
    )
