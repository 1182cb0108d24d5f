"""How long a full queue is said to take: its length over the rate at which requests leave."""

import pytest

from app.error_replies import describe
from app.errors import Overloaded
from app.generation.engine_queue import (
    MAX_RETRY_SECONDS,
    UNMEASURED_SECONDS,
    WINDOW_SECONDS,
    EngineQueue,
)
from engine.errors import QueueFull


class FullWorker:
    """A worker whose queue is full; a real one is in the tests of the routes."""

    num_waiting = 20

    def submit(self, request):
        raise QueueFull(request)


@pytest.fixture
def queue(clock):
    return EngineQueue(FullWorker(), clock)


def leave(queue, clock, *, num, seconds):
    """So many requests leave, evenly."""
    for _ in range(num):
        clock.now += seconds / num
        queue.note_end()


@pytest.mark.parametrize(("num", "seconds", "expected"), [(41, 20, 10), (11, 5, 10), (21, 2, 2)])
def test_expected_time_is_length_over_rate(queue, clock, num, seconds, expected):
    queue.note_end()
    leave(queue, clock, num=num - 1, seconds=seconds)
    assert queue.expected_seconds(20) == expected


def test_only_what_left_of_late_counts(queue, clock):
    leave(queue, clock, num=1000, seconds=1)
    clock.now += WINDOW_SECONDS + 1
    queue.note_end()
    leave(queue, clock, num=10, seconds=10)
    assert queue.expected_seconds(11) == 10


def test_nothing_measured_yet_and_nothing_left_for_long_differ(queue, clock):
    assert queue.expected_seconds(20) == UNMEASURED_SECONDS
    queue.note_end()
    clock.now += WINDOW_SECONDS + 1
    assert queue.expected_seconds(20) == MAX_RETRY_SECONDS


def test_time_is_bounded_both_ways(queue, clock):
    leave(queue, clock, num=4000, seconds=1)
    assert queue.expected_seconds(1) == 1
    assert queue.expected_seconds(10_000_000) == MAX_RETRY_SECONDS


def test_full_queue_is_refused_with_the_expected_time(queue, clock):
    queue.note_end()
    leave(queue, clock, num=8, seconds=9)  # steps that floats hold exactly
    with pytest.raises(Overloaded) as refusal:
        queue.submit("anything")
    reply = describe(refusal.value)
    assert (reply.status, reply.code) == (503, "queue_full")
    assert reply.headers["Retry-After"] == "20"
    assert "20 s" in reply.problems[0].message
