"""Prompt lookup on texts that are copied in part: the same requests with and without it.

    python -m benchmarks.prompt_lookup [--requests 6] [--new-tokens 160] [--num-tokens 5]

The model is the default one on the CPU runtime that serves it. Each prompt asks to write a text
again with a small change, as editing, summarising by quotation and fixing code do. Requests run one
at a time, both ways by turns; the tokens must be the same. Prints tokens per second and the ratio.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from app.loading import LoadedModel, load_model
from app.settings import Settings
from decoding.base import Strategy
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.engine import Engine
from engine.messages import GenerationRequest, RequestFinished
from engine.prompt_lookup import PromptLookup

TEXTS = (
    "The harbour town of Ellingsund has two lighthouses. The older one was built of granite in "
    "1781 and is painted white; the newer one was built of steel in 1934 and is painted red. Both "
    "are still lit every evening, although ships no longer need them.",
    "Dear Ms Okafor, thank you for your letter of 3 March. We have checked the invoice and found "
    "that the delivery was charged twice. We will return the amount of 48 euros to your account "
    "within ten days. We apologise for the trouble this has caused.",
    "def area(width, height):\n    if width < 0 or height < 0:\n        raise ValueError('size')\n"
    "    return width * height\n\n\n"
    "def perimeter(width, height):\n    if width < 0 or height < 0:\n"
    "        raise ValueError('negative')\n    return 2 * (width + height)\n",
)
TASKS = (
    "Write the following text again, word for word, and add one sentence at its end.",
    "Correct the spelling of the following text and write it out again.",
)
TURNS = 3  # of both ways; the faster turn of each counts


@dataclass(frozen=True, slots=True)
class Way:
    """A name and what it adds to a request."""

    name: str
    lookup: PromptLookup | None


@dataclass(frozen=True, slots=True)
class Measured:
    """All answers of one turn, and how long they took."""

    tokens: tuple[tuple[tuple[int, ...], ...], ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Generated tokens per second."""
        return sum(len(ids) for answer in self.tokens for ids in answer) / self.seconds


def build_requests(
    loaded: LoadedModel, strategy: Strategy, *, num_requests: int, max_new_tokens: int
) -> list[GenerationRequest]:
    """Prompts in the model's chat form, by turns of text and task."""
    requests = []
    for at in range(num_requests):
        text, task = TEXTS[at % len(TEXTS)], TASKS[at % len(TASKS)]
        turns = [{"role": "user", "content": f"{task}\n\n{text}"}]
        prompt = loaded.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        ids = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        requests.append(
            GenerationRequest(
                request_id=str(at),
                prompt_ids=tuple(ids),
                strategy=strategy,
                max_new_tokens=max_new_tokens,
                seed=at,
                eos_token_ids=loaded.eos_token_ids,
            )
        )
    return requests


def run_in_turn(engine: Engine, requests: Sequence[GenerationRequest]) -> Measured:
    """Run the requests one after the other, none finding what another has left in the cache."""
    answers = []
    started = time.perf_counter()
    for request in requests:
        name = f"{next(_NAMES)}"
        engine.add(replace(request, request_id=name, cache_salt=name))
        events = []
        while engine.has_work:
            events += engine.step()
        (finished,) = [event for event in events if isinstance(event, RequestFinished)]
        answers.append(tuple(each.token_ids for each in finished.sequences))
    return Measured(tuple(answers), time.perf_counter() - started)


_NAMES = count()


def main() -> None:
    """Print both rates and their ratio for greedy decoding and for sampling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=160)
    parser.add_argument("--num-tokens", type=int, default=5)
    parser.add_argument("--ngram", type=int, default=3)
    arguments = parser.parse_args()
    loaded = load_model(Settings(), lambda _stage, _share: None)
    ways = (
        Way("plain", None),
        Way(
            "prompt lookup",
            PromptLookup(num_tokens=arguments.num_tokens, max_ngram_size=arguments.ngram),
        ),
    )
    for strategy in (Greedy(), Sample(temperature=0.7)):
        requests = build_requests(
            loaded,
            strategy,
            num_requests=arguments.requests,
            max_new_tokens=arguments.new_tokens,
        )
        best: dict[str, Measured] = {}
        before = loaded.engine.stats()
        for _ in range(TURNS):
            for way in ways:
                asked = [replace(request, lookup=way.lookup) for request in requests]
                measured = run_in_turn(loaded.engine, asked)
                if way.name not in best or measured.seconds < best[way.name].seconds:
                    best[way.name] = measured
        plain, fast = (best[way.name] for way in ways)
        after = loaded.engine.stats()
        num_drafted = after.num_draft_tokens - before.num_draft_tokens
        num_accepted = after.num_accepted_draft_tokens - before.num_accepted_draft_tokens
        same = "the same tokens" if plain.tokens == fast.tokens else "OTHER TOKENS"
        print(
            f"{strategy.name}: {plain.rate:.1f} tok/s plain, {fast.rate:.1f} tok/s with prompt "
            f"lookup, {fast.rate / plain.rate:.2f} times; {same}; {num_accepted} of "
            f"{num_drafted} guesses accepted"
        )


if __name__ == "__main__":
    main()
