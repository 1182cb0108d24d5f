"""Percentiles and gaps, against their definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.arrivals import poisson_moments
from benchmarks.load.result import Distribution, LoadResult, Record

SECONDS = st.lists(st.floats(0, 1000), min_size=1, max_size=200)


@given(SECONDS)
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(seconds):
    distribution = Distribution.of(seconds)
    for percent, value in distribution.percentiles.items():
        needed = math.ceil(percent / 100 * len(seconds))
        assert value in seconds
        assert sum(second <= value for second in seconds) >= needed
        assert sum(second < value for second in seconds) < needed
    assert distribution.mean == pytest.approx(sum(seconds) / len(seconds))


def test_nothing_has_no_distribution():
    assert Distribution.of([]) is None


def test_tokens_of_one_event_share_the_time_since_the_last():
    record = Record(started_at=0.0, token_times=[1.0, 2.0, 2.0, 5.0])
    assert record.time_to_first_token == 1.0
    assert sum(record.gaps) == 4.0
    assert len(record.gaps) == 3


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_gaps_add_up_to_the_time_between_first_and_last_token(steps):
    times = [float(sum(steps[: at + 1])) for at in range(len(steps))]
    gaps = Record(started_at=0.0, token_times=times).gaps
    assert len(gaps) == len(times) - 1
    assert sum(gaps) == pytest.approx(times[-1] - times[0])


def test_failed_requests_are_counted_and_count_for_nothing_else():
    good = Record(started_at=0, ended_at=2, token_times=[1, 2], num_new_tokens=2)
    bad = Record(started_at=0, ended_at=9, token_times=[1], num_new_tokens=1, error="HTTP 503")
    result = LoadResult(records=[good, bad], seconds=2.0)
    assert result.errors == {"HTTP 503": 1}
    assert result.output_tokens_per_second == 1.0
    assert result.requests_per_second == 0.5
    assert result.end_to_end.percentiles[99] == 2


def test_arrivals_have_the_gaps_of_a_poisson_process():
    moments = poisson_moments(20_000, rate=4.0, seed=3)
    gaps = [b - a for a, b in zip([0.0, *moments], moments, strict=False)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.25, rel=0.03)
    assert deviation == pytest.approx(0.25, rel=0.05)
    assert moments == sorted(moments)
    assert poisson_moments(20_000, rate=4.0, seed=3, until=5.0) == [m for m in moments if m < 5.0]
