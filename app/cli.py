"""The `beamline` command: puts the commands of `app/commands` together."""

from importlib.metadata import version
from typing import Annotated

import typer

from app.access.command import keys_app
from app.commands.chat import HELP as CHAT_HELP
from app.commands.chat import chat
from app.commands.doctor import HELP as DOCTOR_HELP
from app.commands.doctor import doctor
from app.commands.generate import HELP as GENERATE_HELP
from app.commands.generate import generate
from app.commands.models import models_app
from app.commands.operators import HELP as OPERATORS_HELP
from app.commands.operators import operators
from app.commands.optimize import optimize_app
from app.commands.serve import HELP as SERVE_HELP
from app.commands.serve import serve
from benchmarks.load.command import HELP as BENCH_HELP
from benchmarks.load.command import bench

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """The entry point of the `beamline` command."""
    app()


@app.callback(invoke_without_command=True)
def beamline(
    *,
    wants_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
) -> None:
    """Inference for causal language models: every decoding strategy in one continuous batch."""
    if wants_version:
        typer.echo(f"beamline {version('beamline')}")
        raise typer.Exit


app.command(help=SERVE_HELP)(serve)
app.command(help=GENERATE_HELP)(generate)
app.command(help=CHAT_HELP)(chat)
app.command(help=BENCH_HELP)(bench)
app.command(help=DOCTOR_HELP)(doctor)
app.command(help=OPERATORS_HELP)(operators)
app.add_typer(optimize_app, name="optimize")
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
