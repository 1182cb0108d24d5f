"""How a command ends that cannot do its work: one clean line on stderr and an exit code."""

import typer
from rich.console import Console
from rich.markup import escape

FAILURE, USAGE = 1, 2
INTERRUPTED = 130  # what shells expect of a program that Ctrl-C ended


def failure(message: str, exit_code: int = FAILURE) -> typer.Exit:
    """Say what is wrong; the caller raises what this returns."""
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    return typer.Exit(exit_code)
