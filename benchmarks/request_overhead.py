"""What everything around the model costs: requests over HTTP beside the bare loop of its runner.

    python -m benchmarks.request_overhead

Eight prompts at a time, greedily, as many new tokens for each: computed by the runner alone in a
loop that does nothing else, by the engine in this process, and by the whole service in this
process that is asked for whole answers and for streams. All share one model and take turns; the
clients are a process of their own on the same cores.
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice

import uvicorn

from app.environment import limit_spinning
from app.main import create_app
from app.settings import Settings, load_settings
from app.state import Services, ServiceStatus
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
            planned.append(PlannedRow(row, done[at], row.num_tokens, num_logits=1))
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


def long_texts(model: "Model", num_texts: int, num_new: int) -> list[str]:
    """Prompts that the model continues for so many tokens: then all sides compute the same."""
    found: list[str] = []
    numbers = count(100, 7)
    while len(found) < num_texts:
        texts = [PROMPT.format(*range(first, first + 7)) for first in islice(numbers, 32)]
        prompts = [model.encode(text) for text in texts]
        lengths = run_engine(model.engine, prompts, num_new, model.eos_token_ids, salt="tried")
        found += [text for text, length in zip(texts, lengths, strict=True) if length == num_new]
    return found[:num_texts]


async def run_http(address: str, route: str, texts: Sequence[str], num_new: int) -> int:
    """The same over HTTP, a client a prompt; the number of new tokens.

    The clients do nothing but read to the end, since they take time from the server's cores.
    """
    host, port = address.split(":")

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
def serving(settings: Settings) -> Iterator[tuple[str, Services]]:
    """The whole service on a thread of this process, so that all sides share one model."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    services: Services = app.state.services
    try:
        while services.status is ServiceStatus.LOADING:
            time.sleep(0.05)
        host, port = listener.getsockname()
        yield f"{host}:{port}", services
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def client_process() -> Iterator[Callable[..., int]]:
    """Runs `run_http` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield lambda *arguments: pool.apply(run_clients, arguments)


def run_clients(address: str, route: str, texts: Sequence[str], num_new: int) -> int:
    """What the client process does."""
    return asyncio.run(run_http(address, route, texts, num_new))


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


def measure(settings: Settings, *, rounds: int, batch: int, num_new: int) -> None:
    """Run all sides and print them."""
    with serving(settings) as (address, services), client_process() as ask:
        model = Model(services)
        texts = iter(long_texts(model, batch * (rounds + 1) * 4, num_new))

        def new_texts() -> list[str]:
            """Prompts that nobody has seen: the engine would not compute them again."""
            return list(islice(texts, batch))

        def new_prompts() -> Prompts:
            return [model.encode(text) for text in new_texts()]

        def bare() -> int:
            run_bare(model.runner, new_prompts(), num_new)
            return batch * num_new

        def engine() -> int:
            return sum(run_engine(model.engine, new_prompts(), num_new, model.eos_token_ids))

        def server(route: str) -> Callable[[], int]:
            return lambda: ask(address, route, new_texts(), num_new)

        sides = {BARE: bare, "engine": engine, "server, whole answers": server("/generate")}
        show(time_sides(sides | {"server, streams": server("/generate/stream")}, rounds))


class Model:
    """The parts of a running service that its requests go through; used while it is idle."""

    def __init__(self, services: Services) -> None:
        assert services.worker is not None
        assert services.generator is not None
        served = services.worker._engine
        self.runner = served._runner
        self.engine = Engine(self.runner, served._config)  # the other is stepped by its thread
        self.eos_token_ids = services.generator._eos_token_ids
        self.encode = services.generator._codec.encode


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=192)
    options = parser.parse_args()
    limit_spinning()
    measure(
        load_settings({"access_log": False}),
        rounds=options.rounds,
        batch=options.batch,
        num_new=options.new_tokens,
    )


if __name__ == "__main__":
    main()
