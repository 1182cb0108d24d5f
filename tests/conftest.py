"""What every test shares: repeatable examples, one thread for tensors, and a real Redis.

A test that needs a model, an engine or a server takes it from its own folder's fixtures.
"""

import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tests.app.access.redis_server import BINARY, RedisServer


def pytest_configure() -> None:
    """Before collection: no deadline (shared machines pause), and the same examples every run.

    Models of tests are tiny: more threads would only wait for each other.
    """
    settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
    settings.load_profile("repeatable")
    torch.set_num_threads(1)
    # Whoever starts the tests in the background may have it ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    if BINARY is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer()
    server.start()
    yield server
    server.kill()
