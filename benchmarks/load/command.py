"""The command `beamline bench`: reads the options, runs the loads, shows what they came to."""

import asyncio
import json
from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.environment import CLIENT_KEY_VARIABLE, client_key
from benchmarks.load.target import BeamlineTarget, OpenAITarget, Target
from benchmarks.load.workload import (
    InvalidLoad,
    Mix,
    PromptRequest,
    make_requests,
    read_requests,
)

FAILURE, USAGE = 1, 2
WARM_UP_TOKENS = 8
FILE_WIDTH = 160  # columns of a table that goes to a file
UNWRITTEN = ("configuration", "api_key")  # of what a file of results tells of the load

HELP = """
Put a load on a server that streams text, and measure it.

The server speaks Beamline's API, or OpenAI's (llama-server, vLLM, TGI and others).

Examples:
  beamline bench http://127.0.0.1:8000 --concurrency 1,8,32
  beamline bench http://127.0.0.1:8000 --rate 2.5 --seconds 60 --plot load.png
  beamline bench http://127.0.0.1:8080 --api openai --body '{"temperature": 0}'
  beamline bench http://127.0.0.1:8000 --body '{"strategy": "beam", "num_beams": 4}'
"""


class Api(StrEnum):
    """What the server speaks."""

    BEAMLINE = "beamline"
    OPENAI = "openai"
    OPENAI_CHAT = "openai-chat"


def bench(  # noqa: PLR0913  each is an option
    url: Annotated[str, typer.Argument(help="Where the server listens.")],
    *,
    api: Annotated[Api, typer.Option(help="What it speaks.")] = Api.BEAMLINE,
    model: Annotated[str | None, typer.Option(help="Model name, for OpenAI's API.")] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help=f"The server's key; better {CLIENT_KEY_VARIABLE} in the environment."),
    ] = None,
    body: Annotated[str, typer.Option(help="More fields of each request, as JSON.")] = "{}",
    concurrency: Annotated[
        str | None, typer.Option(help="Clients that each wait for their answer: 8, or 1,8,32.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second at random moments, instead.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each load.")] = 64,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Begin none later than this.")
    ] = None,
    prompt_tokens: Annotated[
        str, typer.Option(help="Lengths of prompts: 128, 16-64, or 32:3,200-400:1.")
    ] = "32",
    new_tokens: Annotated[str, typer.Option(help="Most new tokens, likewise.")] = "64",
    shared_prefix_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens with which all prompts begin alike.")
    ] = 0,
    prompts: Annotated[
        Path | None, typer.Option(help='JSON lines with "text", instead of made-up prompts.')
    ] = None,
    warm_up: Annotated[int, typer.Option(min=0, help="Short requests that do not count.")] = 2,
    seed: Annotated[int, typer.Option(help="Of prompts, lengths and moments.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 600.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file.")
    ] = None,
    records: Annotated[bool, typer.Option(help="Each request's record in it as well.")] = False,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw latencies to this PNG or SVG file.")
    ] = None,
) -> None:
    """Put a load on a server."""
    configuration = {name: value for name, value in locals().items() if name not in UNWRITTEN}
    console = Console(stderr=True)
    try:
        plans = _plans(concurrency, rate)
        _check_files(json_file, plot_file, records=records)
        made = _requests(configuration, len(plans))
        target = _target(api, url, model, body, api_key or client_key())
    except InvalidLoad as error:
        raise _failure(console, str(error), USAGE) from None
    try:
        results = _run_loads(console, target, plans, made, configuration)
    except InvalidLoad as error:
        raise _failure(console, str(error), FAILURE) from None
    _show(console, results, configuration, json_file, plot_file)


def _run_loads(
    console: Console,
    target: Target,
    plans: dict[str, int],
    made: list[list[PromptRequest]],
    options: dict[str, Any],
) -> dict[str, Any]:
    # Imported here, since the other commands of `beamline` need not wait for it.
    from benchmarks.load.arrivals import (  # noqa: PLC0415
        poisson_moments,
        run_closed_loop,
        run_open_loop,
    )

    warm, *lots = made
    timeout = options["timeout"]
    warmed = asyncio.run(run_closed_loop(target, warm, concurrency=1, timeout_seconds=timeout))
    if warm and not warmed.answered:
        raise InvalidLoad(f"no request of the warm-up was answered: {next(iter(warmed.errors))}")
    rate, seed, seconds = options["rate"], options["seed"], options["seconds"]
    results = {}
    with _progress(console) as progress:
        for (name, concurrency), lot in zip(plans.items(), lots, strict=True):
            done = _bar(progress, name, len(lot))
            if concurrency:
                load = run_closed_loop(
                    target,
                    lot,
                    concurrency=concurrency,
                    seconds=seconds,
                    on_done=done,
                    timeout_seconds=timeout,
                )
            else:
                moments = poisson_moments(len(lot), rate=rate, seed=seed, until=seconds)
                load = run_open_loop(
                    target, lot, moments=moments, on_done=done, timeout_seconds=timeout
                )
            results[name] = asyncio.run(load)
    return results


def _show(
    console: Console,
    results: dict[str, Any],
    configuration: dict[str, Any],
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    from benchmarks.load.report import make_table, plot, summarise  # noqa: PLC0415  as above

    width = None if Console().is_terminal else FILE_WIDTH
    Console(width=width).print(make_table(results))
    for name, result in results.items():
        for words, count in result.errors.most_common(5):
            console.print(f"[red]{name}: {count} times[/] {escape(words)}", soft_wrap=True)
    if json_file is not None:
        has_records = bool(configuration["records"])
        json_file.write_text(summarise(results, configuration, has_records=has_records))
    if plot_file is not None:
        plot(results, plot_file)
    if not any(result.answered for result in results.values()):
        raise _failure(console, "no request was answered", FAILURE)


def _plans(concurrency: str | None, rate: float | None) -> dict[str, int]:
    """Loads by name, with their number of clients; 0 for random arrivals."""
    if rate is not None:
        if concurrency is not None:
            raise InvalidLoad("--rate and --concurrency are two kinds of load: choose one.")
        if not 0 < rate < float("inf"):
            raise InvalidLoad(f"--rate {rate}: give requests a second, above 0.")
        return {f"{rate:g} requests/s": 0}
    try:
        numbers = [int(part) for part in (concurrency or "8").split(",")]
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers) or len(set(numbers)) < len(numbers):
        raise InvalidLoad(
            f"--concurrency {concurrency!r}: give numbers of clients, each once, such as 1,8."
        )
    return {f"{number} client{'s' * (number > 1)}": number for number in numbers}


def _requests(options: dict[str, Any], num_loads: int) -> list[list[PromptRequest]]:
    """The warm-up's requests and each load's; no prompt comes twice unless a file repeats it."""
    prompt = Mix.parse(options["prompt_tokens"], "--prompt-tokens")
    answer = Mix.parse(options["new_tokens"], "--new-tokens")
    count, seed = options["requests"], options["seed"]
    short = Mix(((WARM_UP_TOKENS, WARM_UP_TOKENS),), (1.0,))
    warm = make_requests(options["warm_up"], prompt=prompt, answer=short, seed=-1 - seed)
    if options["prompts"] is not None:
        if options["shared_prefix_tokens"]:
            raise InvalidLoad("--shared-prefix-tokens is for made-up prompts: leave out --prompts.")
        asked = read_requests(options["prompts"], count=count * num_loads, answer=answer, seed=seed)
    else:
        asked = make_requests(
            count * num_loads,
            prompt=prompt,
            answer=answer,
            shared_prefix=options["shared_prefix_tokens"],
            seed=seed,
        )
    return [warm, *(asked[at * count : (at + 1) * count] for at in range(num_loads))]


def _target(api: Api, url: str, model: str | None, body: str, api_key: str | None) -> Target:
    if not url.startswith(("http://", "https://")):
        raise InvalidLoad(f"URL {url!r}: give one that begins with http:// or https://.")
    try:
        fields = json.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidLoad(f"--body {body!r}: give a JSON object.")
    if api is Api.BEAMLINE:
        if model is not None:
            raise InvalidLoad("--model is for OpenAI's API: our server has one model.")
        return BeamlineTarget(url, fields, api_key)
    is_chat = api is Api.OPENAI_CHAT
    return OpenAITarget(url, model or "default", fields, is_chat=is_chat, api_key=api_key)


def _check_files(json_file: Path | None, plot_file: Path | None, *, records: bool) -> None:
    if records and json_file is None:
        raise InvalidLoad("--records go into the file of --json: give that as well.")
    for option, file in (("--json", json_file), ("--plot", plot_file)):
        if file is not None and not file.absolute().parent.is_dir():
            raise InvalidLoad(f"{option} {file}: there is no such folder.")
    if plot_file is not None:
        if plot_file.suffix not in (".png", ".svg"):
            raise InvalidLoad(f"--plot {plot_file}: end the name with .png or .svg.")
        if find_spec("matplotlib") is None:
            raise InvalidLoad("--plot needs matplotlib: pip install 'beamline[plots]'.")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        refresh_per_second=4,
    )


def _bar(progress: Progress, name: str, total: int) -> Callable[[], None]:
    task = progress.add_task(name, total=total)
    return lambda: progress.advance(task)


def _failure(console: Console, message: str, exit_code: int) -> typer.Exit:
    console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(exit_code)
