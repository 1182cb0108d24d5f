"""Answers every failure of an application in one shape, or in that of the API that was asked.

`app/main.py` installs it; middleware and other front ends call `answer_error` themselves. Which
status an error has is not decided here but in `app/error_replies.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.error_replies import ErrorReply, describe
from app.errors import AppError
from app.telemetry.record import current_request
from decoding.errors import InvalidParameter
from engine.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How another API tells of failures."""

    covers: Callable[[Request, Exception], bool]  # whether a request that failed is one of its
    translate: Callable[[ErrorReply], ErrorReply]


def install_error_handlers(app: FastAPI, dialects: Sequence[Dialect] = ()) -> None:
    """Answer every failure of the app, from a wrong path to a crash, in the one shape.

    For requests of another API it is that of its dialect; the first that covers one counts.
    """

    async def handle(request: Request, error: Exception) -> Response:
        return answer_error(error, request, dialects)

    for kind in (RequestValidationError, HTTPException, AppError, EngineError, InvalidParameter):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(Exception, handle)


def answer_error(error: Exception, request: Request, dialects: Sequence[Dialect]) -> Response:
    """The response to a request that failed so.

    Handlers use it, and middleware, which no handler surrounds.
    """
    spoken = next((dialect for dialect in dialects if dialect.covers(request, error)), None)
    reply = describe(error)
    if (record := current_request()) is not None:
        record.error = reply.code
    return (reply if spoken is None else spoken.translate(reply)).as_response()
