"""`beamline operators`: compiles our operators for machines that have no compiler."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.failure import failure
from engine.compiled_operators import compile_for_others
from engine.errors import NativeUnavailable

HELP = """
Compile our operators for ONNX Runtime, one library for each kind of processor.

A service without a compiler takes the fastest that its processor can run. In an image:
  RUN beamline operators /opt/operators
  ENV BEAMLINE_OPERATORS_FOLDER=/opt/operators
"""


def operators(folder: Annotated[Path, typer.Argument(help="Where to put them.")]) -> None:
    """Compile what is not there yet."""
    try:
        for library in compile_for_others(folder):
            typer.echo(library)
    except NativeUnavailable as error:
        raise failure(str(error)) from None
