"""What everything around the model costs: requests over HTTP beside the bare loop of its runner.

    python -m benchmarks.request_overhead

Eight prompts at a time, greedily, as many new tokens for each: computed by the runner alone in a
loop that does nothing else, by the engine in this process, and by a server that is asked for whole
answers and for streams. The sides take turns in each round. Client and server share the cores.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice

from app.loading import LoadedModel, load_model
from app.settings import limit_spinning, load_settings
from decoding.greedy import Greedy
from engine.engine import Engine
from engine.messages import GenerationRequest, RequestFinished
from engine.plan import Plan, PlannedRow
from engine.runner import Runner
from engine.sequence import Sequence as TokenSequence

PROMPT = "The ship's clerk counts boxes: {0}, {1}, {2}, {3}, {4}, {5}, {6},"  # goes on and on
BARE = "runner alone"
KINDS = ("output", "input")  # lengths that an answer states
FIRST_ID = 1 << 40  # far from the ids of the engine's own sequences

Prompts = Sequence[Sequence[int]]


def run_bare(runner: Runner, prompts: Prompts, num_new: int) -> None:
    """Prompts in one step, then a step a token, the most likely one."""
    rows = [
        TokenSequence(id=FIRST_ID + number, prompt_ids=tuple(prompt))
        for number, prompt in enumerate(prompts)
    ]
    for row in rows:
        runner.cache.match_prefix(row.id, (), "")
    done = [0] * len(rows)
    for _ in range(num_new):
        planned = []
        for at, row in enumerate(rows):
            assert runner.cache.reserve(row.id, done[at], row.num_tokens)
            planned.append(PlannedRow(row, done[at], row.num_tokens, wants_logits=True))
        said = runner.forward(Plan(rows=tuple(planned), stepping=()))
        best = said.values.argmax(dim=1) if said.summary is None else said.summary.best
        done = [row.num_tokens for row in rows]
        for row, token_id in zip(rows, best.flatten().tolist(), strict=True):
            row.generated_ids.append(token_id)
    for row in rows:
        runner.cache.release(row.id)


def run_engine(
    engine: Engine, prompts: Prompts, num_new: int, eos_token_ids: frozenset[int], *, salt: str = ""
) -> list[int]:
    """The same through the engine, on this thread; how many tokens each prompt got."""
    for number, prompt in enumerate(prompts):
        request = GenerationRequest(
            request_id=str(number),
            prompt_ids=tuple(prompt),
            strategy=Greedy(),
            max_new_tokens=num_new,
            seed=0,
            eos_token_ids=eos_token_ids,
            cache_salt=salt,
        )
        engine.check(request)
        assert engine.add(request) == []
    lengths = [0] * len(prompts)
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, RequestFinished):
                lengths[int(event.request_id)] = len(event.sequences[0].token_ids)
    return lengths


def long_texts(loaded: LoadedModel, num_texts: int, num_new: int) -> list[str]:
    """Prompts that the model continues for so many tokens: then all sides compute the same."""
    found: list[str] = []
    numbers = count(100, 7)
    while len(found) < num_texts:
        texts = [PROMPT.format(*range(first, first + 7)) for first in islice(numbers, 32)]
        prompts = [loaded.tokenizer.encode(text) for text in texts]
        lengths = run_engine(loaded.engine, prompts, num_new, loaded.eos_token_ids, salt="tried")
        found += [text for text, length in zip(texts, lengths, strict=True) if length == num_new]
    return found[:num_texts]


async def run_http(url: str, route: str, texts: Sequence[str], num_new: int) -> int:
    """The same over HTTP, a client a prompt; the number of new tokens.

    The clients do nothing but read to the end, since they take time from the server's cores.
    """
    host, port = url.removeprefix("http://").split(":")

    async def ask(text: str) -> int:
        body = json.dumps(
            {"text": text, "strategy": "greedy", "max_new_tokens": num_new, "cache": False}
        )
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {route} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
        lengths = [int(re.findall(rf'"{kind}_length":(\d+)', answer)[-1]) for kind in KINDS]
        return lengths[0] - lengths[1]

    return sum(await asyncio.gather(*map(ask, texts)))


@contextmanager
def serving(threads: int) -> Iterator[str]:
    """A server of the default model in a process of its own."""
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--port", "0",
               "--no-access-log", "--threads", str(threads)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready: " in line:
                yield line.split("ready: ")[1].split()[0]
                return
        raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.wait()


def time_sides(sides: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each side in each round but the first, which warms up."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began_at = time.perf_counter()
            num_tokens = sides[name]()
            if turn:
                speeds[name].append(num_tokens / (time.perf_counter() - began_at))
    return speeds


def show(speeds: dict[str, list[float]]) -> None:
    """Print medians, and ratios to the bare loop round by round."""
    for name, values in speeds.items():
        ratios = [one / bare for one, bare in zip(values, speeds[BARE], strict=True)]
        print(
            f"{name:22} {statistics.median(values):8.1f} tokens/s, ratio "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def measure(loaded: LoadedModel, *, threads: int, rounds: int, batch: int, num_new: int) -> None:
    """Run all sides and print them."""
    runner = loaded.engine._runner  # the very same, so that only what is around it differs
    texts = iter(long_texts(loaded, batch * (rounds + 1) * 4, num_new))

    def new_texts() -> list[str]:
        """Prompts that nobody has seen: the engine would not compute them again."""
        return list(islice(texts, batch))

    def new_prompts() -> Prompts:
        return [loaded.tokenizer.encode(text) for text in new_texts()]

    def bare() -> int:
        run_bare(runner, new_prompts(), num_new)
        return batch * num_new

    def engine() -> int:
        return sum(run_engine(loaded.engine, new_prompts(), num_new, loaded.eos_token_ids))

    def server(route: str) -> Callable[[], int]:
        return lambda: asyncio.run(run_http(url, route, new_texts(), num_new))

    with serving(threads) as url:
        sides = {BARE: bare, "engine": engine, "server, whole answers": server("/generate")}
        show(time_sides(sides | {"server, streams": server("/generate/stream")}, rounds))


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=192)
    options = parser.parse_args()
    limit_spinning()
    settings = load_settings()
    loaded = load_model(settings, lambda _stage, _part: None)
    measure(
        loaded,
        threads=settings.threads,
        rounds=options.rounds,
        batch=options.batch,
        num_new=options.new_tokens,
    )


if __name__ == "__main__":
    main()
