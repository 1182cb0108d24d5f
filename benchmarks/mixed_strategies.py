"""What it costs that every request of a batch decodes in its own way.

    python -m benchmarks.mixed_strategies [--new-tokens 64] [--turns 5]

One batch holds a request of every strategy, beams with two rows each; the other as many rows of
plain sampling. All rows decode the same number of tokens, so the times compare: both batches run by
turns on the default model and the CPU runtime that serves it. Prints the rows' tokens per second
and the share that is lost.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import count

from app.loading import load_model
from app.settings import Settings
from decoding.base import Strategy
from decoding.registry import STRATEGIES
from decoding.sample import Sample
from engine.engine import Engine
from engine.messages import GenerationRequest

PARAMETERS: dict[str, dict[str, object]] = {
    "beam": {"num_beams": 2},
    "beam_sample": {"num_beams": 2},
    "diverse_beam": {"num_beams": 2},
    "constrained_beam": {"num_beams": 2},
    "best_of": {"best_of": 2},
}
PROMPT = "The lighthouse keeper wrote a letter about the storm, and in it he said that the"
_NAMES = count()


def run(
    engine: Engine, strategies: Sequence[Strategy], prompt_ids: tuple[int, ...], new_tokens: int
) -> float:
    """Seconds for one request of each strategy, all at once; prompts are not counted."""
    for seed, strategy in enumerate(strategies):
        engine.add(
            GenerationRequest(
                request_id=str(next(_NAMES)),
                prompt_ids=prompt_ids,
                strategy=strategy,
                max_new_tokens=new_tokens,
                seed=seed,
            )
        )
    engine.step()
    started = time.perf_counter()
    while engine.has_work:
        engine.step()
    return time.perf_counter() - started


def main() -> None:
    """Print both rates and the loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    loaded = load_model(Settings(), lambda _stage, _share: None)
    prompt_ids = tuple(loaded.tokenizer(PROMPT)["input_ids"])
    mixed = [build(**PARAMETERS.get(name, {})) for name, build in STRATEGIES.items()]  # type: ignore[call-arg]
    num_rows = sum(strategy.num_rows for strategy in mixed)
    plain = [Sample()] * num_rows
    best: dict[str, float] = {}
    for turn in range(arguments.turns + 1):
        for name, strategies in (("mixed", mixed), ("plain", plain)):
            seconds = run(loaded.engine, strategies, prompt_ids, arguments.new_tokens)
            if turn:  # the first one warms up
                best[name] = min(best.get(name, seconds), seconds)
    num_tokens = num_rows * (arguments.new_tokens - 1)
    for name, seconds in best.items():
        print(f"{name}: {num_tokens / seconds:.0f} tok/s in {num_rows} rows")
    loss = 1 - best["plain"] / best["mixed"]
    print(f"{len(mixed)} strategies in one batch lose {loss:.1%} against plain sampling")


if __name__ == "__main__":
    main()
