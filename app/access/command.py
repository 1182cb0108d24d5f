"""`beamline keys`: makes, lists and revokes the API keys in a file.

A running server that was started with the same `--keys-file` notices within a second. A key is
shown once, when it is made; only its hash is kept.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.access.key_file import (
    MAX_PER_MINUTE,
    KeyEntry,
    KeyFile,
    KeyFileError,
    locked,
    read_key_file,
    write_key_file,
)
from app.access.keys import VALID_NAME, digest_of, new_secret
from app.access.scopes import Scope

FAILURE, USAGE = 1, 2
UNLIMITED = "unlimited"

keys_app = typer.Typer(
    help="Make, list and revoke API keys.", no_args_is_help=True, pretty_exceptions_enable=False
)

File = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="BEAMLINE_KEYS_FILE",
        help="The file with the keys, as `beamline serve --keys-file` takes it.",
    ),
]
Name = Annotated[str, typer.Argument(help="What logs and metrics call the key.")]
Limit = Annotated[
    str | None,
    typer.Option(help=f"A number, or {UNLIMITED}; by default what the server says."),
]


@keys_app.command()
def add(
    name: Name,
    file: File,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; may be given again.")
    ] = None,
    requests_per_minute: Limit = None,
    tokens_per_minute: Limit = None,
) -> None:
    """Make a key and print it, once."""
    if not VALID_NAME.fullmatch(name):
        raise _failure(
            "a name has up to 64 letters, digits, dots, dashes and underscores, and does not "
            "begin with one of the last three",
            USAGE,
        )
    secret = new_secret()
    entry = KeyEntry(
        name=name,
        sha256=digest_of(secret.encode()).hex(),
        scopes=list(dict.fromkeys(scope or [Scope.GENERATE])),
        requests_per_minute=_parse_limit("--requests-per-minute", requests_per_minute),
        tokens_per_minute=_parse_limit("--tokens-per-minute", tokens_per_minute),
        created_at=datetime.now(UTC).replace(microsecond=0),
    )
    try:
        with locked(file):
            keys = read_key_file(file) if file.exists() else KeyFile()
            write_key_file(file, keys.with_key(entry))
    except KeyFileError as error:
        raise _failure(str(error), FAILURE) from None
    Console(stderr=True).print(
        f"Key [bold]{name}[/] is in {escape(str(file))}. It is shown this once:"
    )
    typer.echo(secret)


@keys_app.command(name="list")
def list_keys(file: File) -> None:
    """Show the keys by name, with what they may do."""
    try:
        keys = read_key_file(file)
    except KeyFileError as error:
        raise _failure(str(error), FAILURE) from None
    table = Table("name", "scopes", "requests a minute", "tokens a minute", "since")
    for entry in keys.keys:
        table.add_row(
            entry.name,
            " ".join(entry.scopes),
            str(entry.requests_per_minute or "default"),
            str(entry.tokens_per_minute or "default"),
            "" if entry.created_at is None else f"{entry.created_at:%Y-%m-%d}",
        )
    Console().print(table)


@keys_app.command()
def revoke(name: Name, file: File) -> None:
    """Remove a key; servers refuse it within a second."""
    try:
        with locked(file):
            write_key_file(file, read_key_file(file).without_key(name))
    except KeyFileError as error:
        raise _failure(str(error), FAILURE) from None
    Console(stderr=True).print(f"Key [bold]{escape(name)}[/] is revoked.")


def _parse_limit(option: str, given: str | None) -> int | Literal["unlimited"] | None:
    if given is None:
        return None
    if given == UNLIMITED:
        return "unlimited"
    if not given.isdecimal() or not 1 <= int(given) <= MAX_PER_MINUTE:
        raise _failure(f"{option} is 1 to {MAX_PER_MINUTE}, or {UNLIMITED}", USAGE)
    return int(given)


def _failure(message: str, exit_code: int) -> typer.Exit:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(message)}")
    return typer.Exit(exit_code)
