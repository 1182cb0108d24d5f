"""A real Redis, and replicas of the shared cache on it that a test looks into."""

import pytest
import redis as redis_client

from app.generation.shared_cache.building import build_shared_cache
from app.settings import Settings

PREFIX = "test:answers"
# Generous: a busy machine must not make a lookup of these tests late.
SETTINGS = {"cache_redis_prefix": PREFIX, "cache_redis_timeout_seconds": 10.0}


@pytest.fixture
def database(redis):
    """What anybody sees and does who can reach the Redis."""
    with redis_client.Redis(port=redis.port) as client:
        yield client


@pytest.fixture
async def open_cache(redis, clock, tmp_path):
    """Opens a replica of the shared cache, with other settings if wanted."""
    opened = []

    def open_one(**changed):
        settings = Settings(
            cache_folder=tmp_path, **SETTINGS | {"cache_redis": redis.url} | changed
        )
        cache = build_shared_cache(settings, clock=clock, observe=lambda *_: None)
        opened.append(cache)
        return cache

    yield open_one
    for cache in opened:
        await cache.close()


@pytest.fixture
def cache(open_cache):
    return open_cache()


@pytest.fixture
def other(open_cache):
    return open_cache()
