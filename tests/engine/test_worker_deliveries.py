"""The engine's thread when what it delivers is not taken, over a real engine on a tiny Llama."""

import logging
from collections.abc import Callable, Iterator, Sequence

import pytest

from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import Event, GenerationRequest, RequestFinished
from engine.torch_runner import TorchRunner
from engine.worker import EngineWorker
from tests.engine.deliveries import Deliveries
from tests.engine.hash_runner import build_request
from tests.oracle.architectures import CONTEXT_LENGTH, SERVED, build_model
from tests.oracle.engine_run import run_alone

CONFIG = EngineConfig(max_rows=8, max_step_tokens=64, block_size=4, kv_cache_bytes=2**22)
GOOD = {"good 0": (5, 6, 7), "good 1": (8, 9)}
NUM_NEW = 20  # tokens of a good request


class Choosy:
    """Takes what `Deliveries` takes, all events of a call or none, and not those it refuses."""

    def __init__(self, refuses: Callable[[Event], bool]) -> None:
        self.deliveries = Deliveries()
        self._refuses = refuses

    def __call__(self, events: Sequence[Event]) -> None:
        if any(map(self._refuses, events)):
            raise ConnectionError("nobody takes this")
        self.deliveries(events)


def _good_requests() -> list[GenerationRequest]:
    return [build_request(name, ids, max_new_tokens=NUM_NEW) for name, ids in GOOD.items()]


def _load_engine() -> Engine:
    llama = next(each for each in SERVED if each.name == "llama")
    runner = TorchRunner.load(build_model(llama), CONFIG, context_length=CONTEXT_LENGTH)
    return Engine(runner, CONFIG)


@pytest.fixture(scope="module")
def alone() -> dict[str, RequestFinished]:
    """What each good request answers alone, on an engine of its own."""
    engine = _load_engine()
    return {
        request.request_id: run_alone(engine, request).finished[request.request_id]
        for request in _good_requests()
    }


@pytest.fixture
def start() -> Iterator[Callable[[Choosy], EngineWorker]]:
    """Starts workers with a bad request and the good ones."""
    started: list[EngineWorker] = []

    def start_one(deliver: Choosy) -> EngineWorker:
        worker = EngineWorker(_load_engine(), deliver=deliver, max_waiting_requests=10)
        started.append(worker)
        worker.start()
        worker.submit(build_request("bad", max_new_tokens=100))
        for request in _good_requests():
            worker.submit(request)
        return worker

    yield start_one
    for worker in started:
        worker.close()


def _assert_good_ones_answer(deliveries: Deliveries, alone: dict[str, RequestFinished]) -> None:
    deliveries.wait_for_end(*GOOD)
    for name in GOOD:
        finished = deliveries.ended[name]
        assert isinstance(finished, RequestFinished)
        assert finished.sequences[0].token_ids == alone[name].sequences[0].token_ids
        assert len(deliveries.of(name)) == NUM_NEW + 1, "each token came once, and the end"


def test_a_request_whose_events_are_not_taken_ends_alone(
    start: Callable[[Choosy], EngineWorker],
    alone: dict[str, RequestFinished],
    caplog: pytest.LogCaptureFixture,
) -> None:
    deliver = Choosy(lambda event: event.request_id == "bad")
    with caplog.at_level(logging.ERROR, logger="engine.worker"):
        worker = start(deliver)
        _assert_good_ones_answer(deliver.deliveries, alone)
    assert "request bad is cancelled: its events were not taken" in caplog.messages
    assert worker.is_healthy
    worker.submit(build_request("later"))
    deliver.deliveries.wait_for_end("later")
    worker.close()
    assert worker.stats.num_cancellations == 1, "the bad one, once"
    assert worker.stats.num_cached_tokens == 0
    assert worker.stats.num_running_requests == 0


def test_an_end_that_is_not_taken_leaves_nothing_behind(
    start: Callable[[Choosy], EngineWorker], alone: dict[str, RequestFinished]
) -> None:
    deliver = Choosy(lambda event: event.request_id == "bad" and isinstance(event, RequestFinished))
    worker = start(deliver)
    _assert_good_ones_answer(deliver.deliveries, alone)
    worker.submit(build_request("later", max_new_tokens=100))
    deliver.deliveries.wait_for_end("later")
    worker.close()
    assert "bad" not in deliver.deliveries.ended
    assert worker.stats.num_cancellations == 0, "it had ended by itself"
    assert worker.stats.num_cached_tokens == 0


def test_a_delivery_that_fails_once_costs_nobody_anything(
    start: Callable[[Choosy], EngineWorker], alone: dict[str, RequestFinished]
) -> None:
    failures = iter([True])
    deliver = Choosy(lambda _: next(failures, False))
    worker = start(deliver)
    _assert_good_ones_answer(deliver.deliveries, alone)
    deliver.deliveries.wait_for_end("bad")
    assert worker.stats.num_cancellations == 0


def test_closing_ends_the_thread_though_the_last_events_are_not_taken(
    start: Callable[[Choosy], EngineWorker],
) -> None:
    worker = start(Choosy(lambda _: True))
    worker.close()
    assert worker.stats.num_running_requests == worker.stats.num_waiting_requests == 0
    assert worker.stats.num_cached_tokens == 0
