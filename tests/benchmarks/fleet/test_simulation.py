"""The simulation against queueing theory where that has an answer, and against conservation."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet.costs import StepCosts
from benchmarks.fleet.policies import POLICIES, Affinity, LeastLoaded, RoundRobin
from benchmarks.fleet.simulation import ReplicaLimits, simulate
from benchmarks.fleet.workload import Arrival, PoissonLoad

STEP = 0.01
EVEN = StepCosts(decode_seconds={1: STEP}, prompt_seconds={1: 0.0})  # whatever the batch
ROOMY = 10**6
MEAN_TOKENS = 100


def erlang_c(servers, load):
    """The chance to wait in M/M/c, `load` being the arrival rate times the mean service time."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(
    ("servers", "use", "requests"), [(1, 0.5, 10_000), (4, 0.7, 40_000), (16, 0.9, 150_000)]
)
def test_it_waits_as_the_formula_of_erlang_says(servers, use, requests):
    """Answers of exponential length in a batch of `c` rows that costs the same: M/M/c."""
    service = MEAN_TOKENS * STEP
    rate = use * servers / service
    load = PoissonLoad(
        rate=rate,
        seconds=requests / rate,
        prompt_tokens=(1, 1),
        new_tokens=(MEAN_TOKENS, MEAN_TOKENS),
        is_exponential=True,
    )
    outcome = simulate(
        load.arrivals(seed=1),
        num_replicas=1,
        costs=EVEN,
        policy=RoundRobin(),
        limits=ReplicaLimits(max_rows=servers, max_waiting_requests=ROOMY),
    )
    expected = erlang_c(servers, use * servers) * service / (servers * (1 - use))
    on_step_boundary = STEP / 2  # a request begins with a step, not amid one
    assert outcome.mean("queue") == pytest.approx(expected + on_step_boundary, rel=0.1)


def test_littles_law_holds():
    load = PoissonLoad(rate=20, seconds=2000, new_tokens=(1, 199))
    outcome = simulate(load.arrivals(seed=2), num_replicas=2, costs=EVEN, policy=LeastLoaded())
    changes = sorted(
        [(each.arrived_at, 1) for each in outcome.served]
        + [(each.ended_at, -1) for each in outcome.served]
    )
    area, present = 0.0, 0
    for (moment, change), (after, _) in pairwise(changes):
        present += change
        area += present * (after - moment)
    rate = len(outcome.served) / outcome.seconds
    assert area / outcome.seconds == pytest.approx(rate * outcome.mean("whole answer"), rel=1e-3)


arrival_lists = st.lists(
    st.builds(
        Arrival,
        at=st.floats(0, 3),
        prompt_tokens=st.integers(1, 1500),
        new_tokens=st.integers(1, 40),
        prefix=st.none() | st.integers(0, 3),
    ),
    max_size=60,
)


@given(arrival_lists, st.integers(1, 4), st.sampled_from(sorted(POLICIES)))
def test_no_request_is_lost_or_served_before_its_time(arrivals, num_replicas, policy):
    arrivals.sort(key=lambda each: each.at)
    limits = ReplicaLimits(max_rows=3, max_step_tokens=64, max_waiting_requests=4)
    costs = StepCosts(decode_seconds={1: 0.01, 3: 0.02}, prompt_seconds={1: 0.0001})
    outcome = simulate(
        arrivals,
        num_replicas=num_replicas,
        costs=costs,
        policy=POLICIES[policy](),
        limits=limits,
    )
    assert outcome.num_requests == len(arrivals)
    assert 0.0 <= outcome.use <= 1.0
    for each in outcome.served:
        steps = each.new_tokens - 1
        assert each.arrived_at <= each.begun_at < each.first_token_at <= each.ended_at
        assert each.ended_at - each.first_token_at >= steps * 0.01 - 1e-9
    times = sorted(
        [(each.begun_at, 1) for each in outcome.served]
        + [(each.ended_at, -1) for each in outcome.served]
    )
    present = 0
    for _, change in times:
        present += change
        assert present <= limits.max_rows * num_replicas


def test_a_request_alone_takes_its_steps():
    costs = StepCosts(decode_seconds={1: 0.01, 2: 0.02}, prompt_seconds={1: 0.001})
    arrival = Arrival(at=1.0, prompt_tokens=600, new_tokens=5)
    (served,) = simulate([arrival], num_replicas=1, costs=costs, policy=RoundRobin()).served
    assert served.first_token_seconds == pytest.approx(0.01 + 0.512 + 0.01 + 0.088)
    assert served.whole_seconds == pytest.approx(served.first_token_seconds + 4 * 0.01)


def test_a_known_beginning_is_not_read_again():
    costs = StepCosts(decode_seconds={1: 0.01}, prompt_seconds={1: 0.001})
    arrivals = [
        Arrival(at=at, prompt_tokens=500, new_tokens=1, prefix=7, prefix_tokens=450)
        for at in (0.0, 5.0)
    ]
    first, second = simulate(arrivals, num_replicas=2, costs=costs, policy=Affinity()).served
    assert first.first_token_seconds == pytest.approx(0.51)
    assert second.first_token_seconds == pytest.approx(0.06)
    first, second = simulate(arrivals, num_replicas=2, costs=costs, policy=RoundRobin()).served
    assert second.first_token_seconds == pytest.approx(0.51)


def test_the_full_queue_refuses():
    arrivals = [Arrival(at=0.0, prompt_tokens=1, new_tokens=50) for _ in range(10)]
    limits = ReplicaLimits(max_rows=2, max_waiting_requests=3)
    outcome = simulate(arrivals, num_replicas=1, costs=EVEN, policy=RoundRobin(), limits=limits)
    assert (len(outcome.served), outcome.num_refused) == (4, 6)  # one began at once


def test_the_load_comes_at_its_rate():
    load = PoissonLoad(rate=50, seconds=1000, new_tokens=(10, 30), prefix_tokens=5, num_prefixes=3)
    arrivals = list(load.arrivals(seed=3))
    assert len(arrivals) == pytest.approx(50_000, rel=0.02)
    gaps = [after.at - before.at for before, after in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    spread = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert spread == pytest.approx(mean**2, rel=0.05)  # as of the exponential distribution
    assert {each.prefix for each in arrivals} == {0, 1, 2}
    assert {each.prompt_tokens for each in arrivals} == {37}
