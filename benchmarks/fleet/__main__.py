"""The command line of `benchmarks.fleet`: `measure`, `predict` and `check`."""

import argparse
import math
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.fleet.costs import InvalidCosts, StepCosts
from benchmarks.fleet.outcome import MEASURES, Outcome
from benchmarks.fleet.policies import POLICIES, RoundRobin
from benchmarks.fleet.real import measure, serve_poisson, two_servers
from benchmarks.fleet.simulation import ReplicaLimits, simulate
from benchmarks.fleet.sizing import CannotKeep, Promise, fewest_replicas
from benchmarks.fleet.workload import Arrival, PoissonLoad
from benchmarks.load.result import LoadResult

PERCENTS = (50, 95, 99)


def main(arguments: list[str] | None = None) -> int:
    """Run one of the three; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (InvalidCosts, CannotKeep) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run_measure(options: argparse.Namespace) -> None:
    """Measure what steps cost, and write it."""
    with two_servers(*_serving(options)) as urls:
        costs = measure(urls, _machine(), seed=0)
    _print_costs(costs)
    if options.json is not None:
        costs.save(options.json)


def run_predict(options: argparse.Namespace) -> None:
    """Print the fewest replicas for each rate, and what requests then wait."""
    costs = StepCosts.load(options.costs)
    print(f"{costs.source}\n")
    print(
        "| requests/s | policy | replicas | use | tokens/s | queue p95 | first token p50, p95 |"
        " whole p95 | refused | price of 1M tokens |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for rate in options.rate:
        load = _load(options, rate)

        def run(num_replicas: int, load: PoissonLoad = load) -> Outcome:
            return simulate(
                load.arrivals(options.seed),
                num_replicas=num_replicas,
                costs=costs,
                policy=POLICIES[options.policy](),
                limits=ReplicaLimits(max_rows=options.max_rows),
            )

        promise = Promise(measure=options.promise, seconds=options.target_p95)
        _print_fleet(rate, options, fewest_replicas(run, promise))


def run_check(options: argparse.Namespace) -> None:
    """Measure, predict and compare on two real servers."""
    print(_machine())
    lengths = {"prompt": options.prompt_tokens[0], "answer": options.new_tokens[0]}
    with two_servers(*_serving(options)) as urls:
        before = (
            StepCosts.load(options.costs) if options.costs else measure(urls, _machine(), seed=0)
        )
        served = {
            rate: serve_poisson(urls, rate=rate, seconds=options.seconds, **lengths)
            for rate in options.rate
        }
        after = before if options.costs else measure(urls, _machine(), seed=1)
    costs = before.mean_with(after)  # neighbours on the machine come and go
    for each in (before, after):
        _print_costs(each)
    for rate, real in served.items():
        _print_comparison(rate, real, _replayed(real, costs, options))
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


def _replayed(real: LoadResult, costs: StepCosts, options: argparse.Namespace) -> Outcome:
    """The simulation of the very requests that the servers got."""
    arrivals = [
        Arrival(
            at=record.started_at,
            prompt_tokens=record.num_prompt_tokens or options.prompt_tokens[0],
            new_tokens=max(record.num_new_tokens, 1),
        )
        for record in sorted(real.records, key=lambda each: each.started_at)
    ]
    return simulate(arrivals, num_replicas=2, costs=costs, policy=RoundRobin())


def _print_comparison(rate: float, real: LoadResult, predicted: Outcome) -> None:
    print(
        f"\n{rate:g} requests/s: {len(real.answered)} answered, {sum(real.errors.values())} failed;"
        f" the replicas should compute {predicted.use:.0%} of the time"
    )
    print("| | predicted | measured | ratio |\n|---|---|---|---|")
    measured = {
        "first token": sorted(each.time_to_first_token for each in real.answered),
        "whole answer": sorted(each.ended_at - each.started_at for each in real.answered),
    }
    for name, seconds in measured.items():
        for percent in (50, 95):
            found = seconds[max(math.ceil(percent / 100 * len(seconds)), 1) - 1]
            expected = predicted.percentile(name, percent)
            print(
                f"| {name} p{percent} | {expected * 1000:.0f} ms | {found * 1000:.0f} ms "
                f"| {expected / found:.2f} |"
            )


def _print_fleet(rate: float, options: argparse.Namespace, outcome: Outcome) -> None:
    p = outcome.percentile
    print(
        f"| {rate:g} | {options.policy} | {outcome.num_replicas} | {outcome.use:.0%} "
        f"| {outcome.tokens_per_second:.0f} | {p('queue', 95) * 1000:.0f} ms "
        f"| {p('first token', 50) * 1000:.0f}, {p('first token', 95) * 1000:.0f} ms "
        f"| {p('whole answer', 95):.2f} s | {outcome.refused_share:.2%} "
        f"| {outcome.price_per_million_tokens(options.replica_hour):.2f} |"
    )


def _print_costs(costs: StepCosts) -> None:
    steps = ", ".join(f"{n}: {s * 1000:.1f}" for n, s in sorted(costs.decode_seconds.items()))
    prompts = ", ".join(f"{n}: {s * 1000:.0f}" for n, s in sorted(costs.prompt_seconds.items()))
    print(
        f"ms of a step by its sequences: {steps}; and by prompt tokens read in it: {prompts} more"
    )


def _machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, two servers "
        f"of one thread each; load average {load:.1f} before"
    )


def _load(options: argparse.Namespace, rate: float) -> PoissonLoad:
    return PoissonLoad(
        rate=rate,
        seconds=options.seconds,
        prompt_tokens=options.prompt_tokens,
        new_tokens=options.new_tokens,
        is_exponential=options.exponential,
        num_prefixes=options.prefixes,
        prefix_tokens=options.prefix_tokens,
    )


def _serving(options: argparse.Namespace) -> list[str]:
    return ["--model", options.model] if options.model else []


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    commands = parser.add_subparsers(required=True)

    measuring = commands.add_parser("measure", help="what a step costs on this machine")
    measuring.add_argument("--json", type=Path, help="write it to this file")
    measuring.set_defaults(run=run_measure)

    predicting = commands.add_parser("predict", help="the fewest replicas for a load")
    predicting.add_argument("--costs", type=Path, required=True, help="as `measure` writes them")
    predicting.add_argument("--policy", choices=sorted(POLICIES), default="two-choices")
    predicting.add_argument("--promise", choices=sorted(MEASURES), default="first token")
    predicting.add_argument("--target-p95", type=float, default=0.5, help="seconds")
    predicting.add_argument("--max-rows", type=int, default=64)
    predicting.add_argument("--exponential", action="store_true", help="lengths of answers")
    predicting.add_argument("--prefixes", type=int, default=0, help="beginnings that are shared")
    predicting.add_argument("--prefix-tokens", type=int, default=0, help="their length")
    predicting.add_argument("--replica-hour", type=float, default=1.0, help="its price")
    predicting.add_argument("--seed", type=int, default=0)
    predicting.set_defaults(run=run_predict)

    checking = commands.add_parser("check", help="two real servers beside the prediction")
    checking.add_argument("--costs", type=Path, help="instead of measuring")
    checking.set_defaults(run=run_check)

    for each in (measuring, checking):
        each.add_argument("--model", help="instead of the default")
    for each, rates in ((predicting, [1.0, 10.0, 100.0]), (checking, [2.0, 5.0])):
        each.add_argument("--rate", type=float, nargs="+", default=rates, help="requests a second")
        each.add_argument("--seconds", type=float, default=30.0, help="how long requests come")
        each.add_argument("--prompt-tokens", type=_range, default=(32, 32), help="32 or 16-64")
        each.add_argument("--new-tokens", type=_range, default=(48, 48), help="likewise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
