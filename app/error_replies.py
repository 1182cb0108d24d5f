"""What a client sees of a failure: the one table from every error to its reply.

Routes, streams, items of a list and jobs all describe a failure with `describe`; nothing else in
the service chooses a status. `app/http/error_handlers.py` answers whole requests with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.errors import (
    AdminClosed,
    ClientDisconnected,
    InvalidRequest,
    JobNotFound,
    JobsFull,
    ListFailed,
    MissingKey,
    ModelNotFound,
    Overloaded,
    RateLimited,
    RetryLater,
    ScopeMissing,
    ServiceUnavailable,
    StateConflict,
    TextQueueFull,
    UnknownKey,
)
from decoding.errors import InvalidParameter
from engine.errors import (
    ConstraintNotMet,
    DecodingFailed,
    EngineClosed,
    EngineError,
    QueueFull,
    QueueTimedOut,
    RequestRefused,
    RequestTooLarge,
    StepFailed,
)

MAX_PROBLEMS = 10  # validation errors reported of one request
MAX_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, as clients see it."""

    type: str
    code: str
    message: str
    param: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The object under `error`."""
        return {
            "type": self.type,
            "code": self.code,
            "message": _shortened(self.message),
            "param": None if self.param is None else _shortened(self.param),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply:
    """What a failure becomes on the wire."""

    status: int
    problems: Sequence[Problem]  # not empty; the first is the one to act on
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The code of the first problem."""
        return self.problems[0].code

    def as_json(self) -> dict[str, object]:
        """The response body: `error`, and `errors` where there are several."""
        shown = [problem.as_json() for problem in self.problems[:MAX_PROBLEMS]]
        return {"error": shown[0]} | ({"errors": shown} if len(shown) > 1 else {})

    def as_response(self) -> Response:
        """A whole response. Escapes everything but ASCII, so encoding it cannot fail."""
        return Response(
            json.dumps(self.as_json()),
            status_code=self.status,
            headers=dict(self.headers),
            media_type="application/json",
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table. Without a fixed message the error's own text is shown."""

    status: int
    type: str
    code: str
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_INVALID, _MISSING = "invalid_request_error", "not_found_error"
_OVERLOADED, _UNAVAILABLE, _SERVER = "overloaded_error", "unavailable_error", "server_error"
_UNKNOWN, _FORBIDDEN, _LIMITED = "authentication_error", "permission_error", "rate_limit_error"
_CONFLICT = "conflict_error"
_SOON = {"Retry-After": "1"}
_LATER = {"Retry-After": "5"}
_NEVER = {"x-should-retry": "false"}  # the same request would most likely fail again
_CHALLENGE = "WWW-Authenticate"  # how to ask properly, as RFC 6750 writes it
_NO_KEY = {_CHALLENGE: 'Bearer realm="beamline"'}
_BAD_KEY = {_CHALLENGE: 'Bearer realm="beamline", error="invalid_token"'}
_BAD_SCOPE = {_CHALLENGE: 'Bearer realm="beamline", error="insufficient_scope"'}

_TABLE: Mapping[type[Exception], _Row] = {
    InvalidRequest: _Row(422, _INVALID, "invalid_value"),
    InvalidParameter: _Row(422, _INVALID, "invalid_value"),
    RequestTooLarge: _Row(422, _INVALID, "request_too_large"),
    RequestRefused: _Row(422, _INVALID, "request_refused"),
    ConstraintNotMet: _Row(422, _INVALID, "constraint_not_met"),
    MissingKey: _Row(401, _UNKNOWN, "missing_api_key", headers=_NO_KEY),
    UnknownKey: _Row(401, _UNKNOWN, "invalid_api_key", headers=_BAD_KEY),
    ScopeMissing: _Row(403, _FORBIDDEN, "insufficient_scope", headers=_BAD_SCOPE),
    AdminClosed: _Row(403, _FORBIDDEN, "admin_closed"),
    JobNotFound: _Row(404, _MISSING, "job_not_found"),
    ModelNotFound: _Row(404, _INVALID, "model_not_found"),
    StateConflict: _Row(409, _CONFLICT, "state_conflict"),
    RateLimited: _Row(429, _LIMITED, "rate_limit_exceeded"),
    ClientDisconnected: _Row(499, _INVALID, "client_disconnected"),
    TextQueueFull: _Row(503, _OVERLOADED, "text_queue_full", headers=_SOON),
    QueueFull: _Row(
        503, _OVERLOADED, "queue_full", "Too many requests are waiting; try again.", _SOON
    ),
    QueueTimedOut: _Row(503, _OVERLOADED, "queue_timeout", headers=_SOON),
    Overloaded: _Row(503, _OVERLOADED, "queue_full"),
    JobsFull: _Row(503, _OVERLOADED, "jobs_full", headers=_LATER),
    ServiceUnavailable: _Row(503, _UNAVAILABLE, "service_unavailable"),
    EngineClosed: _Row(
        503, _UNAVAILABLE, "engine_closed", "The engine is not running; try again.", _LATER
    ),
    StepFailed: _Row(
        500, _SERVER, "step_failed", "The model failed while it ran this request.", _NEVER
    ),
    DecodingFailed: _Row(
        500, _SERVER, "decoding_failed", "No next token could be chosen for this request.", _NEVER
    ),
    EngineError: _Row(500, _SERVER, "engine_error", "The engine failed.", _NEVER),
    Exception: _Row(500, _SERVER, "internal_error", "The server failed unexpectedly."),
}
_HTTP_CODES: Mapping[int, str] = {
    400: "malformed_body",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}
_BODY_STATUSES: Mapping[str, int] = {
    "json_invalid": 400,
    "not_an_object": 400,
    "unsupported_media_type": 415,
}


def describe(error: Exception) -> ErrorReply:
    """What the client is told of an error, whichever way it is answered."""
    if isinstance(error, RequestValidationError):
        return _describe_validation(error)
    if isinstance(error, HTTPException):
        return _describe_http(error)
    if isinstance(error, ListFailed):
        return _describe_list(error)
    row = next(_TABLE[base] for base in type(error).__mro__ if base in _TABLE)
    problem = Problem(
        type=row.type,
        code=error.code if isinstance(error, InvalidRequest) else row.code,
        message=row.message or str(error) or row.code,
        param=_param_of(error),
    )
    headers = dict(row.headers)
    if isinstance(error, RetryLater):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return ErrorReply(status=row.status, problems=(problem,), headers=headers)


def _describe_validation(error: RequestValidationError) -> ErrorReply:
    mistakes = cast("Sequence[Mapping[str, object]]", error.errors())
    problems = [_problem_of(mistake) for mistake in mistakes[:MAX_PROBLEMS]]
    status = _BODY_STATUSES.get(str(mistakes[0]["type"]), 422)
    return ErrorReply(status=status, problems=problems)


def _problem_of(mistake: Mapping[str, object]) -> Problem:
    """FastAPI's error without what it echoes of the input."""
    code, message = str(mistake["type"]), str(mistake["msg"])
    location = cast("Sequence[object]", mistake["loc"])[1:]
    if code == "json_invalid":
        reason = cast("Mapping[str, object]", mistake["ctx"])["error"]
        message = f"The body is not valid JSON: {reason} at position {location[0]}."
        location = ()
    if code == "missing" and not location:
        message = "The body is missing; send a JSON object."
    param = ".".join(str(part) for part in location) or None
    return Problem(type=_INVALID, code=code, message=message, param=param)


def _describe_http(error: HTTPException) -> ErrorReply:
    status = error.status_code
    kind = _MISSING if status == 404 else _INVALID if status < 500 else _SERVER
    code = _HTTP_CODES.get(status, f"http_{status}")
    problem = Problem(type=kind, code=code, message=str(error.detail))
    return ErrorReply(status=status, problems=(problem,), headers=dict(error.headers or {}))


def _describe_list(error: ListFailed) -> ErrorReply:
    """The first text's status and headers, and what is wrong with each."""
    replies = [describe(failure) for failure in error.failures[:MAX_PROBLEMS]]
    problems = [
        replace(reply.problems[0], message=f"Text {index}: {reply.problems[0].message}")
        for index, reply in enumerate(replies)
    ]
    return replace(replies[0], problems=problems)


def _param_of(error: Exception) -> str | None:
    if isinstance(error, ModelNotFound):
        return "model"
    if isinstance(error, InvalidRequest):
        return error.param
    return error.field if isinstance(error, InvalidParameter | ConstraintNotMet) else None


def _shortened(text: str) -> str:
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    return text[: MAX_MESSAGE_CHARACTERS - 3] + "..."
