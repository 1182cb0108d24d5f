"""Clocks that stand still, keys for a service, and a real Redis."""

import pytest

from tests.app.access.redis_server import BINARY, RedisServer


class HeldClock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def wall_clock(monkeypatch):
    """The wall clock, which rate limits go by, under the test's control."""
    held = HeldClock(1_800_000_000.0)
    monkeypatch.setattr("time.time", held)
    return held


@pytest.fixture
def redis():
    if BINARY is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer()
    server.start()
    yield server
    server.kill()
