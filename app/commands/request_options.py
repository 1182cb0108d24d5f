"""The options that make fields of a request: `-s beam -p num_beams=4`."""

from collections.abc import Iterable
from typing import Annotated

import typer

from app.bodies.named_fields import parse_fields

Strategy = Annotated[
    str | None, typer.Option("--strategy", "-s", help="How tokens are chosen, such as beam.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="A field of POST /generate, such as num_beams=4; once for each.",
    ),
]


def request_fields(strategy: str | None, parameters: Iterable[str] | None) -> dict[str, object]:
    """The fields that the options stand for.

    Raises:
        InvalidField: one has no name or no value.
    """
    named = {} if strategy is None else {"strategy": strategy}
    return named | parse_fields(parameters or ())
