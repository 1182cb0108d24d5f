"""The engine's thread when things go wrong: bad requests, failing steps, and its end."""

import threading
from collections.abc import Callable

import pytest
import torch

from engine.errors import EngineClosed, QueueFull, StepFailed
from engine.messages import RequestFailed, RequestFinished
from engine.worker import MAX_FAILED_STEPS
from tests.engine.deliveries import PATIENCE_SECONDS, Gate
from tests.engine.faulty import Faulty
from tests.engine.hash_runner import VOCAB_SIZE, HashRunner, build_request
from tests.engine.running_worker import RunningWorker


def _fail(_: object) -> None:
    raise RuntimeError("device lost")


def test_a_strategy_that_cannot_start_says_so_and_ends_alone(
    start: Callable[..., RunningWorker],
) -> None:
    running = start()
    running.worker.submit(build_request("bad", strategy=Faulty(starts=False)))
    running.worker.submit(build_request("good"))
    running.deliveries.wait_for_end("bad", "good")
    assert isinstance(running.deliveries.ended["bad"], RequestFailed)
    assert isinstance(running.deliveries.ended["good"], RequestFinished)


def test_a_failed_step_fails_what_runs_and_the_worker_goes_on(
    start: Callable[..., RunningWorker],
) -> None:
    running = start(max_rows=2)
    gate = Gate()

    def fail_behind_gate(_: object) -> None:
        gate(_)
        running.runner.before_forward = HashRunner().before_forward
        _fail(_)

    running.runner.before_forward = fail_behind_gate
    running.worker.submit(build_request("a"))
    gate.wait_until_entered()
    running.worker.submit(build_request("waits"))
    gate.open()
    running.deliveries.wait_for_end("a", "waits")
    error = running.deliveries.ended["a"].error
    assert isinstance(error, StepFailed)
    assert "RuntimeError" in str(error)
    assert isinstance(running.deliveries.ended["waits"], RequestFinished)
    assert running.worker.is_healthy
    assert running.worker.stats.num_failures == 1


def _fail_steps(running: RunningWorker, count: int) -> None:
    for number in range(count):
        running.worker.submit(build_request(f"failed {number}"))
        running.deliveries.wait_for_end(f"failed {number}")


def test_steps_that_keep_failing_make_the_worker_unhealthy_until_one_succeeds(
    start: Callable[..., RunningWorker],
) -> None:
    running = start()
    running.runner.before_forward = _fail
    _fail_steps(running, MAX_FAILED_STEPS - 1)
    assert running.worker.is_healthy
    running.worker.submit(build_request("the last straw"))
    running.deliveries.wait_for_end("the last straw")
    assert not running.worker.is_healthy
    running.runner.before_forward = HashRunner().before_forward
    running.worker.submit(build_request("good"))
    running.deliveries.wait_for_end("good")
    assert running.worker.is_healthy


def test_a_step_that_fails_after_its_model_call_counts_as_failed(
    start: Callable[..., RunningWorker],
) -> None:
    running = start()
    running.runner.forward = lambda _: torch.empty(0, VOCAB_SIZE)  # nobody's logits
    _fail_steps(running, MAX_FAILED_STEPS)
    assert not running.worker.is_healthy


def test_a_turn_without_a_step_does_not_hide_that_steps_keep_failing(
    start: Callable[..., RunningWorker],
) -> None:
    running = start()
    running.runner.before_forward = _fail
    for number in range(MAX_FAILED_STEPS):
        running.worker.submit(build_request(f"failed {number}"))
        running.deliveries.wait_for_end(f"failed {number}")
        running.worker.cancel(f"failed {number}")  # as a caller does that cleans up after itself
        running.worker.submit(build_request(f"bad {number}", strategy=Faulty(starts=False)))
        running.deliveries.wait_for_end(f"bad {number}")  # this turn had nothing to step
    assert not running.worker.is_healthy


def test_closing_fails_what_is_left_and_refuses_what_comes(
    start: Callable[..., RunningWorker],
) -> None:
    running = start(max_waiting_requests=3, max_rows=1)
    accepted = ["runs"]
    is_full = threading.Event()

    def submit_until_closed(_: object) -> None:
        while True:
            name = f"waits {len(accepted)}"
            try:
                running.worker.submit(build_request(name))
            except QueueFull:
                is_full.set()
                continue
            except EngineClosed:
                return
            accepted.append(name)

    running.runner.before_forward = submit_until_closed
    running.worker.submit(build_request("runs", max_new_tokens=200))
    assert is_full.wait(PATIENCE_SECONDS)
    running.worker.close()
    assert len(accepted) > 2
    assert running.deliveries.ended.keys() == set(accepted)
    for ended in running.deliveries.ended.values():
        assert isinstance(ended.error, EngineClosed)
    assert not running.worker.is_healthy
    running.worker.close()
    with pytest.raises(EngineClosed):
        running.worker.submit(build_request("late"))


def test_a_worker_that_never_started_takes_nothing_and_closes() -> None:
    worker = RunningWorker().worker
    assert not worker.is_healthy
    with pytest.raises(EngineClosed):
        worker.submit(build_request())
    worker.close()
