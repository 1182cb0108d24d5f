"""Fixtures of the engine's tests: workers that are closed whatever happens."""

from collections.abc import Callable, Iterator

import pytest

from engine.native_library import build_native_library
from optimize.weight_scheme import WeightScheme
from tests.engine.deliveries import Gate
from tests.engine.exports import export, save_tiny_llama
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


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session", params=[WeightScheme.FP32, WeightScheme.W8A8])
def exported(request, tiny_llama_folder, tmp_path_factory):
    """A folder with both graphs, and its manifest."""
    return export(tiny_llama_folder, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def native_library(tmp_path_factory):
    """The operators, compiled here: developing needs a C++ compiler."""
    return build_native_library(tmp_path_factory.mktemp("operators"))
