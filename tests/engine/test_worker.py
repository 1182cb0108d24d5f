"""The engine's thread: what goes in, what comes out and when, and its bound."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from engine.errors import QueueFull, RequestTooLarge
from engine.messages import RequestFinished, TokenEvent
from engine.worker import IDLE_SECONDS
from tests.engine.deliveries import PATIENCE_SECONDS, Gate
from tests.engine.hash_runner import CONTEXT_LENGTH, HashRunner, build_engine, build_request
from tests.engine.running_worker import RunningWorker
from tests.oracle.engine_run import run_alone


def test_a_request_comes_back_as_its_tokens_and_then_its_answer(
    start: Callable[..., RunningWorker],
) -> None:
    running = start()
    running.worker.submit(build_request("a"))
    running.deliveries.wait_for_end("a")
    events = running.deliveries.of("a")
    assert [type(event) for event in events] == [TokenEvent] * 5 + [RequestFinished]
    alone = run_alone(build_engine(HashRunner()), build_request("a")).finished["a"]
    assert events[-1].sequences == alone.sequences
    assert running.deliveries.threads == {"engine"}


def test_all_events_of_a_step_are_delivered_at_once(start: Callable[..., RunningWorker]) -> None:
    gate = Gate()
    running = start(gate=gate)
    running.worker.submit(build_request("first", max_new_tokens=20))
    gate.wait_until_entered()
    running.worker.submit(build_request("second"))
    gate.open()
    running.deliveries.wait_for_end("first", "second")
    batches = running.deliveries.batches
    assert len(batches) == 20
    assert [event.request_id for event in batches[1]] == ["first", "second"]


def test_requests_of_many_threads_all_come_back(start: Callable[..., RunningWorker]) -> None:
    running = start()
    names = [f"{thread} {number}" for thread in range(4) for number in range(10)]

    def submit(thread: int) -> None:
        for number in range(10):
            running.worker.submit(build_request(f"{thread} {number}", (thread, number)))

    threads = [threading.Thread(target=submit, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    running.deliveries.wait_for_end(*names)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert all(isinstance(end, RequestFinished) for end in running.deliveries.ended.values())


def test_the_queue_takes_as_many_as_may_wait_and_not_one_more(
    start: Callable[..., RunningWorker],
) -> None:
    gate = Gate()
    running = start(gate=gate, max_waiting_requests=3, max_rows=1)
    running.worker.submit(build_request("runs"))
    gate.wait_until_entered()  # from here on it runs
    for number in range(3):
        running.worker.submit(build_request(f"waits {number}"))
    with pytest.raises(QueueFull, match="3 requests are waiting"):
        running.worker.submit(build_request("too many"))
    gate.open()
    running.deliveries.wait_for_end("runs", *(f"waits {number}" for number in range(3)))
    assert running.deliveries.of("too many") == []


def test_waiting_in_the_engine_counts_as_waiting_in_the_inbox_does(
    start: Callable[..., RunningWorker],
) -> None:
    running = start(max_waiting_requests=3, max_rows=1)
    gate = Gate()

    def hold_second_step(_: object) -> None:
        if running.worker.stats.num_waiting_requests == 2:
            gate(_)

    holder = Gate()
    running.runner.before_forward = holder
    running.worker.submit(build_request("runs", max_new_tokens=20))
    holder.wait_until_entered()
    running.worker.submit(build_request("waits 0"))
    running.worker.submit(build_request("waits 1"))
    running.runner.before_forward = hold_second_step
    holder.open()
    gate.wait_until_entered()
    running.worker.submit(build_request("waits 2"))
    with pytest.raises(QueueFull):
        running.worker.submit(build_request("too many"))
    gate.open()
    running.deliveries.wait_for_end("runs", "waits 0", "waits 1", "waits 2")


def test_a_request_that_could_never_run_is_refused_at_once(
    start: Callable[..., RunningWorker],
) -> None:
    running = start()
    with pytest.raises(RequestTooLarge):
        running.worker.submit(build_request(max_new_tokens=CONTEXT_LENGTH))
    assert running.worker.stats.num_waiting_requests == 0


def test_a_request_cancelled_while_it_waits_never_runs(start: Callable[..., RunningWorker]) -> None:
    gate = Gate()
    running = start(gate=gate)
    running.worker.submit(build_request("runs"))
    gate.wait_until_entered()
    running.worker.submit(build_request("cancelled"))
    running.worker.cancel("cancelled")
    running.worker.cancel("cancelled")
    running.worker.cancel("never heard of")
    gate.open()
    running.worker.submit(build_request("after"))
    running.deliveries.wait_for_end("runs", "after")
    assert running.deliveries.of("cancelled") == []
    assert running.worker.stats.num_cancellations == 1


def test_a_request_cancelled_while_it_runs_stops_within_a_step(
    start: Callable[..., RunningWorker],
) -> None:
    gate = Gate()
    running = start(gate=gate)
    running.worker.submit(build_request("cancelled", max_new_tokens=200))
    gate.wait_until_entered()
    running.worker.cancel("cancelled")
    gate.open()
    running.worker.submit(build_request("after"))
    running.deliveries.wait_for_end("after")
    assert len(running.deliveries.of("cancelled")) <= 1, "the step that was under way"
    running.worker.close()
    assert running.worker.stats.num_cancellations == 1
    assert running.worker.stats.num_cached_tokens == 0


def test_an_idle_worker_gives_signs_of_life_and_a_held_one_does_not(
    start: Callable[..., RunningWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("engine.worker.time", SimpleNamespace(monotonic=lambda: now[0]))
    gate = Gate()
    running = start(gate=gate)
    running.worker.submit(build_request("held"))
    gate.wait_until_entered()
    assert running.worker.seconds_since_heartbeat == 0.0
    now[0] += 77.0
    assert running.worker.seconds_since_heartbeat == 77.0, "the step hangs"
    gate.open()
    running.deliveries.wait_for_end("held")
    running.worker.submit(build_request("next"))
    running.deliveries.wait_for_end("next")
    assert running.worker.seconds_since_heartbeat == 0.0
    assert IDLE_SECONDS < 10, "an idle thread must not look like one that hangs"


def test_stats_and_limits_are_the_engines(start: Callable[..., RunningWorker]) -> None:
    running = start(max_rows=5)
    assert running.worker.limits.max_rows == 5
    running.worker.submit(build_request("a"))
    running.deliveries.wait_for_end("a")
    running.worker.close()
    stats = running.worker.stats
    assert (stats.num_steps, stats.num_generated_tokens, stats.num_running_requests) == (5, 5, 0)
