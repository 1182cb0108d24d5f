import json

import pytest

from benchmarks.fleet.costs import InvalidCosts, StepCosts
from benchmarks.fleet.policies import TwoChoices
from benchmarks.fleet.simulation import simulate
from benchmarks.fleet.sizing import CannotKeep, Promise, fewest_replicas
from benchmarks.fleet.workload import PoissonLoad

COSTS = StepCosts(decode_seconds={1: 0.01, 64: 0.03}, prompt_seconds={1: 0.0001})


def run(num_replicas):
    load = PoissonLoad(rate=150, seconds=15)
    return simulate(
        load.arrivals(seed=0), num_replicas=num_replicas, costs=COSTS, policy=TwoChoices()
    )


@pytest.mark.parametrize("seconds", [0.08, 0.2])
def test_it_finds_the_smallest_fleet_that_keeps_the_promise(seconds):
    promise = Promise(measure="first token", seconds=seconds)
    found = fewest_replicas(run, promise)
    assert promise.is_kept(found)
    assert found.num_replicas > 1
    assert not promise.is_kept(run(found.num_replicas - 1))


def test_a_promise_that_one_request_alone_breaks_is_refused():
    with pytest.raises(CannotKeep, match="too slow for a whole answer"):
        fewest_replicas(run, Promise(measure="whole answer", seconds=0.1))


def test_a_price_is_that_of_all_replicas():
    outcome = run(4)
    tokens_an_hour = outcome.tokens_per_second * 3600
    assert outcome.price_per_million_tokens(0.5) == pytest.approx(2.0 / tokens_an_hour * 1e6)


def test_a_step_costs_a_straight_line_between_and_beyond_what_was_measured():
    assert COSTS.step_seconds(1, 0) == 0.01
    assert COSTS.step_seconds(0, 10) == pytest.approx(0.011)
    assert COSTS.step_seconds(64, 0) == pytest.approx(0.03)
    assert COSTS.step_seconds(127, 0) == pytest.approx(0.05)


def test_tokens_of_longer_prompts_may_cost_more():
    costs = StepCosts(decode_seconds={1: 0.01}, prompt_seconds={16: 0.016, 32: 0.064})
    assert costs.step_seconds(0, 8) == pytest.approx(0.018)
    assert costs.step_seconds(0, 24) == pytest.approx(0.05)
    assert costs.step_seconds(0, 48) == pytest.approx(0.122)


def test_the_mean_of_two_measurements_lies_between_them():
    other = StepCosts(decode_seconds={1: 0.02, 2: 0.5, 64: 0.04}, prompt_seconds={1: 0.0003})
    mean = COSTS.mean_with(other)
    assert dict(mean.decode_seconds) == pytest.approx({1: 0.015, 64: 0.035})
    assert dict(mean.prompt_seconds) == pytest.approx({1: 0.0002})


def test_costs_survive_their_file(tmp_path):
    COSTS.save(tmp_path / "costs.json")
    assert StepCosts.load(tmp_path / "costs.json") == COSTS


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"decode_seconds": {"0": 1}, "prompt_seconds": {"1": 0}}),
        json.dumps({"decode_seconds": {"1": 0}, "prompt_seconds": {"1": 0}}),
        json.dumps({"decode_seconds": {"1": 1}, "prompt_seconds": {}}),
        json.dumps({"decode_seconds": {"1": 1}, "prompt_seconds": {"1": float("nan")}}),
    ],
)
def test_a_file_that_is_no_costs_is_refused_by_name(tmp_path, content):
    (tmp_path / "costs.json").write_text(content)
    with pytest.raises(InvalidCosts, match=r"costs\.json"):
        StepCosts.load(tmp_path / "costs.json")
