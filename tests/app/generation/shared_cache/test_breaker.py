"""Who may pass a breaker, and when: a clock that stands still, and no luck."""

import pytest

from app.generation.shared_cache.breaker import BreakerState, CircuitBreaker


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(
        "the thing", clock=clock, num_failures=3, first_rest_seconds=1.0, longest_rest_seconds=4.0
    )


def fail(breaker, times=1):
    for _ in range(times):
        breaker.failed(breaker.enter(), "gone")


def test_failures_in_a_row_open_it_and_nobody_passes_until_the_rest_is_over(breaker, clock):
    fail(breaker, 2)
    breaker.succeeded(breaker.enter())
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker)
    assert (breaker.state, breaker.num_opened) == (BreakerState.OPEN, 1)
    clock.now += 0.999
    assert breaker.enter() is None
    clock.now += 0.001
    assert breaker.enter() is not None


def test_one_probe_passes_and_its_success_lets_everybody_in(breaker, clock):
    fail(breaker, 3)
    clock.now += 1
    probe = breaker.enter()
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.enter() is None
    breaker.succeeded(probe)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.enter() is not None


def test_rests_double_up_to_a_bound_and_begin_anew_after_a_success(breaker, clock):
    fail(breaker, 3)
    for seconds in (1, 2, 4, 4):
        clock.now += seconds - 0.001
        assert breaker.enter() is None
        clock.now += 0.001
        fail(breaker)
    assert breaker.num_opened == 5
    clock.now += 4
    breaker.succeeded(breaker.enter())
    fail(breaker, 3)
    clock.now += 1
    assert breaker.enter() is not None


def test_what_began_before_a_change_has_no_say_after_it(breaker, clock):
    early = [breaker.enter() for _ in range(10)]
    for permit in early:
        breaker.failed(permit, "gone")
    assert breaker.num_opened == 1
    breaker.succeeded(early[0])
    assert breaker.state is BreakerState.OPEN
    clock.now += 1
    probe = breaker.enter()
    breaker.failed(early[1], "late")
    breaker.succeeded(early[2])
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(probe)
    assert breaker.state is BreakerState.CLOSED


def test_each_change_is_a_line_of_the_log(breaker, clock, caplog):
    caplog.set_level("INFO")
    fail(breaker, 3)
    clock.now += 1
    fail(breaker)
    clock.now += 2
    breaker.succeeded(breaker.enter())
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "WARNING",
            "the thing does not answer (gone): left alone for 1 s; answers are computed here",
        ),
        ("INFO", "trying whether the thing answers again"),
        ("INFO", "the thing does not answer yet (gone): left alone for 2 s"),
        ("INFO", "trying whether the thing answers again"),
        ("INFO", "the thing answers again"),
    ]
