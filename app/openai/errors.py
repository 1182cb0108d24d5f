"""How failures look under `/v1`: OpenAI's status codes, and its names for fields.

The envelope is that of the whole service already. `/v1/systemone` is no route of OpenAI's and
keeps ours.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from fastapi import Request

from app.error_replies import ErrorReply, Problem
from app.http.error_handlers import Dialect
from app.http.paths import path_of

PREFIX = "/v1/"
NOT_OPENAI = frozenset({"/v1/systemone"})
STATUSES: Mapping[int, int] = MappingProxyType({422: 400})
FIELDS: Mapping[str, str] = MappingProxyType(  # what these bodies call ours
    {
        "max_new_tokens": "max_tokens",
        "num_return_sequences": "n",
        "prompt_logprobs": "logprobs",
    }
)
RESPONSES = "/v1/responses"
RESPONSE_FIELDS: Mapping[str, str] = MappingProxyType(  # what responses call a chat's
    {"max_tokens": "max_output_tokens", "messages": "input"}
)
OUR_FIELD = re.compile(rf"\b({'|'.join(FIELDS)})\b")


def covers(request: Request, _: Exception) -> bool:
    """Whether a request went to a path of OpenAI's."""
    path = path_of(request.scope)
    return path.startswith(PREFIX) and path not in NOT_OPENAI


def covers_responses(request: Request, _: Exception) -> bool:
    """Whether it went to the path of responses."""
    return path_of(request.scope) == RESPONSES


def translate(reply: ErrorReply) -> ErrorReply:
    """A failure as OpenAI's API would tell it."""
    return replace(
        reply,
        status=STATUSES.get(reply.status, reply.status),
        problems=[_translated(problem) for problem in reply.problems],
    )


def _translated(problem: Problem) -> Problem:
    if problem.code == "unknown_field":  # it tells what the client itself wrote
        return problem
    param = problem.param
    return replace(
        problem,
        message=OUR_FIELD.sub(lambda match: FIELDS[match[0]], problem.message),
        param=None if param is None else FIELDS.get(param, param),
    )


def translate_for_responses(reply: ErrorReply) -> ErrorReply:
    """The same under `/v1/responses`, whose fields have names of their own."""
    translated = translate(reply)
    return replace(translated, problems=[_renamed(problem) for problem in translated.problems])


def _renamed(problem: Problem) -> Problem:
    param = problem.param
    return replace(
        problem,
        message=re.sub(r"\bmax_tokens\b", "max_output_tokens", problem.message),
        param=None if param is None else RESPONSE_FIELDS.get(param, param),
    )


DIALECT = Dialect(covers=covers, translate=translate)
RESPONSE_DIALECT = Dialect(covers=covers_responses, translate=translate_for_responses)
