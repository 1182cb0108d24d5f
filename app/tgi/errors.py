"""Failures as TGI tells them: `error`, `error_type`, and its statuses.

`DIALECT` tells `app/http/error_handlers.py` on which requests to speak so: those on TGI's own
paths, and on shared ones if the body has `inputs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from app.bodies.by_inputs import has_inputs
from app.error_replies import MAX_PROBLEMS, ErrorReply, Problem
from app.http.error_handlers import Dialect
from app.http.paths import path_of

PATHS = frozenset({"/", "/generate_stream", "/chat_tokenize"})
OVERLOADED = frozenset({"queue_full", "queue_timeout", "text_queue_full"})
GENERATION = frozenset({"step_failed", "decoding_failed", "engine_error"})
NAMES: Mapping[str, str] = MappingProxyType(  # what TGI calls a field of ours that may be refused
    {"prompt_logprobs": "decoder_input_details"}
)
TYPES: Mapping[int, str] = MappingProxyType(
    {
        401: "unauthorized",
        403: "forbidden",
        404: "not_found",
        405: "method_not_allowed",
        424: "generation",
        429: "overloaded",
        500: "incomplete_generation",
        503: "unavailable",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TgiErrorReply(ErrorReply):
    """A failure in TGI's shape."""

    def as_json(self) -> dict[str, object]:
        """The response body: one sentence that names each field."""
        told = "; ".join(map(_sentence, self.problems[:MAX_PROBLEMS]))
        error_type = TYPES.get(self.status, "validation")
        if error_type == "validation":
            told = f"Input validation error: {told}"
        return {"error": told, "error_type": error_type}


def translate(reply: ErrorReply) -> TgiErrorReply:
    """A failure as TGI would tell it."""
    status = reply.status
    if reply.code in OVERLOADED:
        status = 429
    elif reply.code in GENERATION:
        status = 424
    return TgiErrorReply(status=status, problems=reply.problems, headers=reply.headers)


def speak_tgi(request: Request) -> None:
    """Note on a shared path that the body is TGI's, so that its failures are told as such."""
    request.state.speaks_tgi = True


def covers(request: Request, error: Exception) -> bool:
    """Whether a request is one of TGI's API."""
    is_wrong_body = isinstance(error, RequestValidationError) and has_inputs(error.body)
    return (
        is_wrong_body
        or path_of(request.scope) in PATHS
        or getattr(request.state, "speaks_tgi", False)
    )


def _sentence(problem: Problem) -> str:
    shown = problem.as_json()
    param, message = shown["param"], shown["message"] or ""
    if param is None:
        return message
    name = param.removeprefix("parameters.")
    return f"`{NAMES.get(name, name)}`: {message}"


DIALECT = Dialect(covers=covers, translate=translate)
