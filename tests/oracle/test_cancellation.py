"""A cancelled request, wherever it is, frees its blocks at once and changes nobody's tokens."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import Event, GenerationRequest, RequestFailed, RequestFinished
from engine.worker import EngineWorker
from tests.oracle.engine_run import EngineRun
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.serving import build_engine
from tests.oracle.workload import BEAMS, GREEDY, build_requests

NARROW = EngineConfig(max_rows=8, max_step_tokens=8, block_size=4)
VICTIMS = (Sample(num_return_sequences=3), Greedy(), Beam(num_beams=3), Beam(num_beams=2))


@pytest.fixture(scope="module")
def exam() -> Exam:
    return set_exam(*served("mistral-window"), [*GREEDY, *BEAMS[:8]])


@pytest.fixture(scope="module")
def victims() -> list[GenerationRequest]:
    """Requests that would run long: the last prompts of the workload, without end tokens."""
    strategies = [Greedy()] * 8 + list(VICTIMS)
    requests = build_requests(strategies, frozenset(), seed=9, max_new_tokens=60)
    return [
        GenerationRequest(
            request_id=f"victim-{request.request_id}",
            prompt_ids=request.prompt_ids,
            strategy=request.strategy,
            max_new_tokens=request.max_new_tokens,
            seed=request.seed,
        )
        for request in requests[8:]
    ]


@pytest.fixture
def engine(exam: Exam) -> Engine:
    return build_engine(exam.architecture, NARROW)


@pytest.mark.parametrize("num_steps", [0, 1, 2, 3, 5, 8, 13, 21, 34])
def test_cancelling_after_any_number_of_steps_leaves_the_others_as_they_were(
    engine: Engine, exam: Exam, victims: Sequence[GenerationRequest], num_steps: int
) -> None:
    run = EngineRun(engine)
    for at, victim in enumerate(victims):
        run.submit(victim, *exam.requests[4 * at : 4 * at + 4])
    run.step(num_steps)
    for victim in victims:
        engine.cancel(victim.request_id)
    run.finish()
    exam.check(run)
    assert run.finished.keys() == {request.request_id for request in exam.requests}
    assert engine.stats().num_cached_tokens == 0
    assert engine.stats().num_cancellations == len(victims)


def test_a_request_cancelled_in_the_queue_never_runs(
    engine: Engine, victims: Sequence[GenerationRequest]
) -> None:
    run = EngineRun(engine)
    run.submit(*victims)
    engine.cancel(victims[-1].request_id)
    for victim in victims[:-1]:
        engine.cancel(victim.request_id)
    assert not engine.has_work
    assert engine.stats().num_steps == 0


def test_a_request_cancelled_in_prefill_frees_its_blocks_before_the_next_step(
    engine: Engine, victims: Sequence[GenerationRequest]
) -> None:
    victim = max(victims, key=lambda request: len(request.prompt_ids))
    run = EngineRun(engine)
    run.submit(victim)
    run.step()
    assert run.streamed(victim.request_id) == ()
    assert engine.stats().num_cached_tokens == NARROW.max_step_tokens
    engine.cancel(victim.request_id)
    assert engine.stats().num_cached_tokens == 0
    assert not engine.has_work


@pytest.mark.parametrize("strategy", VICTIMS, ids=str)
def test_a_request_cancelled_in_decode_frees_the_blocks_of_all_its_sequences(
    engine: Engine, victims: Sequence[GenerationRequest], strategy: object
) -> None:
    (victim,) = [request for request in victims if request.strategy == strategy]
    run = EngineRun(engine)
    run.submit(victim)
    run.step(20)
    assert engine.stats().num_running_sequences == victim.strategy.num_rows
    engine.cancel(victim.request_id)
    engine.cancel(victim.request_id)
    assert engine.stats().num_cached_tokens == 0
    assert engine.stats().num_cancellations == 1
    assert not engine.has_work


class Desk:
    """Receives a worker's events and lets tests wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.ended: dict[str, RequestFinished | RequestFailed] = {}
        self.events: list[Event] = []

    def deliver(self, events: Sequence[Event]) -> None:
        with self._changed:
            self.events += events
            for event in events:
                if isinstance(event, RequestFinished | RequestFailed):
                    self.ended[event.request_id] = event
            self._changed.notify_all()

    def wait_for_end(self, request_ids: Sequence[str]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended.keys() >= set(request_ids), 120)

    def wait_for_event_of(self, request_id: str) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(event.request_id == request_id for event in self.events), 120
            )


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def worker(engine: Engine, desk: Desk) -> Iterator[EngineWorker]:
    worker = EngineWorker(engine, deliver=desk.deliver, max_waiting_requests=100)
    worker.start()
    yield worker
    worker.close()


def test_answers_stay_right_while_threads_submit_and_cancel(
    engine: Engine,
    worker: EngineWorker,
    desk: Desk,
    exam: Exam,
    victims: Sequence[GenerationRequest],
) -> None:
    def ask(requests: Sequence[GenerationRequest], victim: GenerationRequest) -> None:
        worker.submit(victim)
        for request in requests:
            worker.submit(request)
        if isinstance(victim.strategy, Sample | Greedy):
            desk.wait_for_event_of(victim.request_id)
        worker.cancel(victim.request_id)

    threads = [
        threading.Thread(target=ask, args=(exam.requests[at::4], victim))
        for at, victim in enumerate(victims)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.wait_for_end([request.request_id for request in exam.requests])
    worker.close()
    run = EngineRun(engine)
    run.record(desk.events)
    exam.check(run)
    assert worker.stats.num_cached_tokens == 0
