"""Validates a `POST /generate` body that came another way than over HTTP, with the same words.

The commands `generate` and `chat` use it; routes have FastAPI do the same.
"""

import json
from collections.abc import Mapping
from typing import Annotated

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from app.bodies.request_fields import GenerateBody
from app.bodies.request_models import StrategyUnion
from decoding.base import Strategy
from decoding.registry import DEFAULT_STRATEGY

SHARED_FIELDS = frozenset(GenerateBody.model_fields)
ONE_OF = ({"text", "messages"}, {"max_new_tokens", "max_length"})  # a body has one of each


class BodyParser:
    """Makes bodies of JSON values. Safe to use from any thread."""

    def __init__(self, strategies: Mapping[str, type[Strategy]]) -> None:
        self._adapter: TypeAdapter[GenerateBody] = TypeAdapter(
            Annotated[GenerateBody, StrategyUnion(strategies)]
        )

    def parse(self, value: object) -> GenerateBody:
        """The body that a JSON value is.

        Raises:
            RequestValidationError: it is none; `app.errors.describe` names the fields.
        """
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            mistakes = error.errors(include_url=False, include_input=False)
            raise RequestValidationError(
                [{**mistake, "loc": ("body", *mistake["loc"])} for mistake in mistakes]
            ) from error


def read_json(text: str) -> object:
    """The value of a JSON text.

    Raises:
        RequestValidationError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason, position = str(error), 0
        if isinstance(error, json.JSONDecodeError):
            reason, position = error.msg, error.pos
        mistake = {
            "type": "json_invalid",
            "loc": ("body", position),
            "msg": "JSON decode error",
            "ctx": {"error": reason},
        }
        raise RequestValidationError([mistake]) from error


def with_defaults(body: Mapping[str, object], defaults: Mapping[str, object]) -> dict[str, object]:
    """The body with defaults for what it leaves open.

    A body that names another strategy gets only the defaults that every strategy has, and one that
    has one field of a choice (`max_length`, say) no default for the other.
    """
    usual = defaults.get("strategy", DEFAULT_STRATEGY)
    is_other = body.get("strategy", usual) != usual
    taken = set().union(*(choice for choice in ONE_OF if not choice.isdisjoint(body)))
    kept = {
        name: value
        for name, value in defaults.items()
        if name not in taken and (name in SHARED_FIELDS or not is_other)
    }
    return kept | dict(body)
