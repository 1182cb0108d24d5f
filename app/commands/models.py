"""`beamline models`: what the cache folder holds, made beforehand, looked at, or removed."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.commands.failure import USAGE, failure
from app.commands.setting_options import Given, takes_settings
from app.environment import limit_spinning
from app.process.progress import shown_progress
from app.settings import SettingsError, load_settings
from decoding.errors import InvalidStrategy
from engine.errors import EngineError
from optimize.cached_models import (
    CachedModel,
    is_older,
    list_cached,
    other_bytes,
    remove_cached,
)
from optimize.errors import ModelError

FILE_WIDTH = 200  # columns of a table that goes to a file

models_app = typer.Typer(
    no_args_is_help=True, help="The models kept in the cache folder: list, prepare, remove."
)
Cache = Annotated[Path | None, typer.Option(help="Where they are kept, if not where serve does.")]
PREPARE_HELP = """
Do once what the first start with a model would do: convert, export, compile and check it.

MODEL and the options are those of serve, and the same ones find the result. In an image:
  RUN beamline models prepare --cache-folder /models my-model.gguf
"""


@models_app.command("list")
def list_models(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    cache_folder: Cache = None,
) -> None:
    """List what is kept, last used first."""
    folder = _folder(cache_folder)
    entries, others = list_cached(folder), other_bytes(folder)
    if as_json:
        shown = [
            {**asdict(entry), "path": str(entry.path), "name": entry.name} for entry in entries
        ]
        typer.echo(json.dumps({"folder": str(folder), "models": shown, "other_bytes": others}))
        return
    console = Console(width=None if Console().is_terminal else FILE_WIDTH, highlight=False)
    console.print(_table(entries))
    rest = ", ".join(f"{kind} {_size(size)}" for kind, size in others.items() if size)
    total = sum(entry.num_bytes for entry in entries) + sum(others.values())
    console.print(f"{folder}: {_size(total)}" + (f", of that {rest}" if rest else ""))


@models_app.command(help=PREPARE_HELP)
@takes_settings(("Model", "Draft model"), without=("model", "num_speculative_tokens"))
def prepare(
    model: Annotated[
        str | None, typer.Argument(help="Hub id, folder or GGUF file; nothing: the default.")
    ] = None,
    *,
    given: Given,
) -> None:
    """Prepare a model so that a later start finds everything done."""
    console = Console(stderr=True, highlight=False)
    limit_spinning()
    try:
        settings = load_settings({**given, **({} if model is None else {"model": model})})
        before = {entry.path for entry in list_cached(settings.cache_folder)}
        # Only now: it loads torch.
        from app.loading import load_model  # noqa: PLC0415

        with shown_progress(console) as progress:
            served = load_model(settings, progress).served
    except SettingsError as error:
        raise failure(str(error), USAGE) from None
    except (ModelError, EngineError, InvalidStrategy, OSError) as error:
        raise failure(str(error)) from None
    made = [e for e in list_cached(settings.cache_folder) if e.path not in before]
    for entry in made:
        typer.echo(f"made {entry.kind} {entry.name} ({_size(entry.num_bytes)})")
    typer.echo(f"{served.name} is ready: {served.weights} on {served.runtime}, {served.device}")


@models_app.command()
def remove(
    names: Annotated[list[str] | None, typer.Argument(help="Names, as list shows them.")] = None,
    *,
    unused_days: Annotated[
        float | None, typer.Option(min=0.0, help="All that were not used for so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    cache_folder: Cache = None,
) -> None:
    """Remove models; the next start that needs one makes it again."""
    entries = list_cached(_folder(cache_folder))
    chosen = _choose(entries, names or [], unused_days, everything=everything)
    for entry in chosen:
        try:
            remove_cached(entry)
        except OSError as error:
            raise failure(f"{entry.name} cannot be removed: {error}") from None
        typer.echo(f"removed {entry.name}")
    typer.echo(f"{_size(sum(entry.num_bytes for entry in chosen))} freed")


def _choose(
    entries: list[CachedModel], names: list[str], unused_days: float | None, *, everything: bool
) -> list[CachedModel]:
    if (bool(names), unused_days is not None, everything).count(True) != 1:
        raise failure("give names, --unused-days or --all: one of them.", USAGE)
    if everything:
        return entries
    if unused_days is not None:
        return [entry for entry in entries if is_older(entry, unused_days)]
    by_name = {entry.name: entry for entry in entries}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise failure(
            f"{', '.join(unknown)}: not in the cache; `beamline models list` shows the names."
        )
    return [by_name[name] for name in dict.fromkeys(names)]


def _folder(given: Path | None) -> Path:
    try:
        return load_settings({} if given is None else {"cache_folder": given}).cache_folder
    except SettingsError as error:
        raise failure(str(error), USAGE) from None


def _table(entries: list[CachedModel]) -> Table:
    table = Table("Name", "Kind", "Weights", "Size", "Last used (UTC)", "Made from")
    table.columns[3].justify = "right"
    for entry in entries:
        used = datetime.fromtimestamp(entry.used_at, UTC).strftime("%Y-%m-%d %H:%M")
        size = _size(entry.num_bytes)
        table.add_row(entry.name, entry.kind, entry.scheme or "", size, used, entry.source or "")
    return table


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
