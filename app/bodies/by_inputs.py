"""Two bodies on one path: one with `inputs` is TGI's, any other is ours.

Routes annotate a body with `ByInputs`; both kinds then stand in the API's document.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    Discriminator,
    GetCoreSchemaHandler,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import CoreSchema, ErrorDetails

from app.bodies.request_errors import REWORDED, Location, failure

INPUTS = "inputs"


def has_inputs(body: object) -> bool:
    """Whether a parsed body is TGI's."""
    return isinstance(body, Mapping) and INPUTS in body


class ByInputs:
    """Metadata for an annotation: validate a body as the kind that it is.

    Args:
        ours: the type, or annotated type, of a body without `inputs`.
        tgi: that of a body with it.
    """

    def __init__(self, *, ours: Any, tgi: Any) -> None:  # noqa: ANN401  annotated types
        self._ours = ours
        self._tgi = tgi

    def __get_pydantic_core_schema__(
        self, _source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A union of the two in place of what the annotation names."""
        union: Any = Annotated[self._ours, Tag("ours")] | Annotated[self._tgi, Tag("tgi")]
        rules = (Discriminator(_kind), WrapValidator(_without_tag))
        return handler.generate_schema(Annotated[union, *rules])


def _kind(body: object) -> str:
    return "tgi" if has_inputs(body) else "ours"


def _without_tag(body: object, validate: ValidatorFunctionWrapHandler) -> object:
    """What `validate` makes of it; mistakes are told by field, without the branch."""
    try:
        return validate(body)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)
        worded = {
            _location(each): (each["type"], REWORDED.get(each["type"], each["msg"]))
            for each in mistakes
        }
        raise failure(worded) from error


def _location(mistake: ErrorDetails) -> Location:
    """Where it is; of fields that contradict each other, the one that is told of it."""
    context = mistake.get("ctx", {})
    return mistake["loc"][1:] or ((str(context["field"]),) if "field" in context else ())
