"""Fixtures of the engine's tests: workers that are closed whatever happens."""

from collections.abc import Callable, Iterator

import pytest

from tests.engine.deliveries import Gate
from tests.engine.running_worker import RunningWorker


@pytest.fixture
def start() -> Iterator[Callable[..., RunningWorker]]:
    """Starts workers; whatever holds their forwards must be gone when the test ends."""
    started: list[RunningWorker] = []

    def start_one(*, gate: Gate | None = None, **bounds: int) -> RunningWorker:
        running = RunningWorker(**bounds)
        if gate is not None:
            running.runner.before_forward = gate
        started.append(running)
        running.worker.start()
        return running

    yield start_one
    for running in started:
        if isinstance(running.runner.before_forward, Gate):
            running.runner.before_forward.open()
        running.worker.close()
