"""A draft model that guesses ahead: the same requests with and without it.

    python -m benchmarks.draft_model [--requests 6] [--new-tokens 96] [--num-tokens 1 2 4]
        [--model FOLDER --draft-model FOLDER]

Without models named, the pair is made of the default one, since no smaller model of its family can
be had offline. "8-bit draft": its weights in float32 are served by torch, and the same model with
8-bit weights and activations on our own operators guesses. That draft is nearly always right and
costs less a token, so it shows what a good draft gains there. "Truncated":
served by our own operators, with its own first layers as the draft, which were never trained to
speak: nearly always wrong, it shows what a useless draft costs. A small model trained on the same
tokens lies between the two; name one with --model and --draft-model.

Requests run one at a time, all ways by turns; the tokens must be the same. Prints tokens per
second, ratios, and how many guesses were right.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.loading import LoadedModel, load_model
from app.settings import Settings
from benchmarks.prompt_lookup import Measured, build_requests, run_in_turn
from decoding.base import Strategy
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.messages import GenerationRequest
from optimize.prepare import prepare_model
from optimize.spec import ModelSpec

TURNS = 2  # of all ways; the fastest turn of each counts
NUM_LAYERS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """A name and how to serve it."""

    name: str
    settings: Settings


def pairs(arguments: argparse.Namespace, folder: Path) -> Iterator[Pair]:
    """The pair that was named, or two that are made here."""
    if arguments.model is not None:
        given = {"model": arguments.model, "draft_model": arguments.draft_model}
        yield Pair("the pair given", Settings(**given))
        return
    whole = folder / "whole"
    save_default(whole)
    yield Pair(
        "8-bit draft",
        Settings(model=str(whole), draft_model=str(whole), runtime="torch", device="cpu"),
    )
    first = folder / f"first-{NUM_LAYERS_KEPT}-layers"
    truncate(whole, first)
    yield Pair("truncated draft", Settings(model=str(whole), draft_model=str(first)))


def save_default(folder: Path) -> None:
    """Write the embedded model as a transformers folder in float32."""
    settings = Settings()
    spec = ModelSpec(device="cpu", dtype="float32", cache_folder=settings.cache_folder)
    prepared = prepare_model(spec)
    prepared.module.save_pretrained(folder)
    prepared.tokenizer.save_pretrained(folder)


def truncate(source: Path, target: Path) -> None:
    """The same model with its first layers only."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    config["num_hidden_layers"] = NUM_LAYERS_KEPT  # weights of the others are not loaded
    (target / "config.json").write_text(json.dumps(config))


def compare(
    loaded: LoadedModel, strategy: Strategy, arguments: argparse.Namespace
) -> Iterator[str]:
    """A line for each number of guesses."""
    requests = build_requests(
        loaded, strategy, num_requests=arguments.requests, max_new_tokens=arguments.new_tokens
    )
    counts = (0, *arguments.num_tokens)
    best: dict[int, Measured] = {}
    guesses: dict[int, str] = {}
    for _ in range(TURNS):
        for count in counts:
            measured, guesses[count] = measure(loaded, requests, count)
            if count not in best or measured.seconds < best[count].seconds:
                best[count] = measured
    plain = best[0]
    yield f"{strategy.name}, no guesses: {plain.rate:.1f} tok/s"
    for count in counts[1:]:
        same = "the same tokens" if best[count].tokens == plain.tokens else "OTHER TOKENS"
        yield (
            f"{strategy.name}, {count} at once: {best[count].rate:.1f} tok/s, "
            f"{best[count].rate / plain.rate:.2f} times; {same}; {guesses[count]}"
        )


def measure(
    loaded: LoadedModel, requests: Sequence[GenerationRequest], count: int
) -> tuple[Measured, str]:
    """Run the requests one after the other, and say how good the guesses were."""
    before = loaded.engine.stats()
    measured = run_in_turn(
        loaded.engine, [replace(each, num_speculative_tokens=count) for each in requests]
    )
    after = loaded.engine.stats()
    num_drafted = after.num_draft_tokens - before.num_draft_tokens
    num_accepted = after.num_accepted_draft_tokens - before.num_accepted_draft_tokens
    share = (after.draft_seconds - before.draft_seconds) / measured.seconds
    return measured, f"{num_accepted} of {num_drafted} guesses right, {share:.0%} of the time"


def main() -> None:
    """Print all lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--num-tokens", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--model")
    parser.add_argument("--draft-model")
    arguments = parser.parse_args()
    if (arguments.model is None) != (arguments.draft_model is None):
        parser.error("give both models or none")
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs(arguments, Path(folder)):
            loaded = load_model(pair.settings, lambda _stage, _share: None)
            served = loaded.served
            print(f"{pair.name}: {served.name} on {served.runtime} in {served.weights}")
            for strategy in (Greedy(), Sample(temperature=0.7)):
                for line in compare(loaded, strategy, arguments):
                    print("  " + line, flush=True)


if __name__ == "__main__":
    main()
