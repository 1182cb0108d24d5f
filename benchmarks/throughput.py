"""How much faster are many requests together than one after the other, token for token the same?

Run as `python -m benchmarks.throughput`; see README.md. Both sides are measured in one run on the
same engine, and the answers are compared: a faster wrong answer counts for nothing.
"""

import argparse
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
import torch

from benchmarks.answers import Answer, Target, TargetFailed
from benchmarks.in_process import InProcessTarget
from benchmarks.mixed_requests import MixedRequest, build_mixed_requests
from benchmarks.over_http import HttpTarget
from engine.config import EngineConfig
from optimize.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers and how long they took."""

    answers: Sequence[Answer]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all returned sequences over the whole time, prompts included."""
        return sum(answer.num_tokens for answer in self.answers) / self.seconds


def main() -> int:
    """Measure, print, and return 1 if an answer depended on its neighbours."""
    arguments = parse_arguments()
    target = build_target(arguments)
    requests = build_mixed_requests(arguments.requests, max_new_tokens=arguments.new_tokens)
    print("command:", shlex.join(["python", "-m", "benchmarks.throughput", *sys.argv[1:]]))
    print("machine:", platform.platform(), f"{torch.get_num_threads()} threads")
    print("target: ", target.description)
    print(f"load:    {len(requests)} requests, {arguments.new_tokens} new tokens each at most")
    warm_up(target, requests)
    together = measure(target.answer_together, requests)
    report("together", together)
    in_turn = measure(target.answer_in_turn, requests)
    report("in turn", in_turn)
    print(f"ratio:   {in_turn.seconds / together.seconds:.2f}")
    return compare(requests, together.answers, in_turn.answers)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description="Many requests together against the same ones one after the other.",
    )
    parser.add_argument("--url", help="measure this running server instead of the engine here")
    parser.add_argument("--model", help="hub id, folder or GGUF file; default: the embedded model")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: CUDA where present")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--max-rows", type=int, help="sequences in one step; default: the engine's")
    arguments = parser.parse_args()
    if arguments.url and (arguments.model or arguments.device or arguments.max_rows):
        parser.error("--model, --device and --max-rows are the server's to choose: leave out --url")
    return arguments


def build_target(arguments: argparse.Namespace) -> Target:
    """The server at `--url`, else an engine in this process."""
    if arguments.url:
        return HttpTarget(arguments.url.rstrip("/"))
    spec = ModelSpec(
        source=arguments.model,
        device=arguments.device,
        cache_folder=Path(platformdirs.user_cache_dir("beamline")),
    )
    config = EngineConfig()
    if arguments.max_rows:
        config = replace(config, max_rows=arguments.max_rows)
    return InProcessTarget.load(spec, config)


def warm_up(target: Target, requests: Sequence[MixedRequest]) -> None:
    """Ask for every prompt once, so that both sides find the same prefixes in the cache."""
    prompts = {request.text: replace(request, max_new_tokens=1) for request in requests}
    target.answer_in_turn(list(prompts.values()))


def measure(
    answer: Callable[[Sequence[MixedRequest]], list[Answer]], requests: Sequence[MixedRequest]
) -> Measured:
    """Time one way of asking."""
    started = time.perf_counter()
    answers = answer(requests)
    return Measured(answers, time.perf_counter() - started)


def report(name: str, measured: Measured) -> None:
    """One line a side."""
    rate = measured.tokens_per_second
    print(f"{name + ':':9}{measured.seconds:.1f} s, {rate:.1f} new tokens a second", flush=True)


def compare(
    requests: Sequence[MixedRequest], together: Sequence[Answer], in_turn: Sequence[Answer]
) -> int:
    """Print whether each request got the same tokens both ways; 1 if one did not."""
    different = [
        request
        for request, one, other in zip(requests, together, in_turn, strict=True)
        if one != other
    ]
    for request in different:
        print("DIFFERENT:", request)
    print(f"answers: {len(requests) - len(different)} of {len(requests)} identical")
    return 1 if different else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TargetFailed as failure:
        sys.exit(f"error: {failure}")
