"""The field `structured_outputs` of a body: one way of saying what the text must look like.

Named as vLLM's. What is no valid schema, regex or grammar is refused when it is compiled.
"""

import json
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.strict_model import StrictModel
from app.text.grammar.spec import GrammarKind, GrammarSpec

MAX_GRAMMAR_CHARACTERS = 200_000
MAX_CHOICES = 4096
MAX_CHOICE_CHARACTERS = 4096
MAX_DEPTH = 64  # of a schema's objects and lists, as vLLM's

GrammarText = Annotated[str, Field(min_length=1, max_length=MAX_GRAMMAR_CHARACTERS)]
Choice = Annotated[str, Field(min_length=1, max_length=MAX_CHOICE_CHARACTERS)]


class StructuredOutputs(StrictModel):
    """Exactly one of these. A text that max_new_tokens cuts may be incomplete."""

    json_schema: dict[str, Any] | GrammarText | None = Field(
        default=None,
        alias="json",
        description="A JSON schema, as an object or as a string: the text is JSON that satisfies "
        "it.",
    )
    json_object: bool = Field(default=False, description="true: the text is some JSON object.")
    regex: GrammarText | None = Field(
        default=None, description="A regular expression that the whole text matches."
    )
    choice: Annotated[list[Choice], Field(min_length=1, max_length=MAX_CHOICES)] | None = Field(
        default=None, description="The text is one of these strings."
    )
    grammar: GrammarText | None = Field(
        default=None,
        description="A context-free grammar in Lark's form, whose rule `start` the text follows, "
        "or in llama.cpp's GBNF, whose rule is `root`.",
    )

    def as_spec(self) -> GrammarSpec:
        """The one that is given."""
        (kind,) = self._given()
        return GrammarSpec(kind=kind, text=self._text(kind))

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = self._given()
        if len(given) != 1:
            names = ", ".join(GrammarKind)
            raise _mistake(f"Give exactly one of {names}; there are {len(given)}")
        self._text(given[0])
        return self

    def _given(self) -> list[GrammarKind]:
        values = {
            GrammarKind.JSON: self.json_schema,
            GrammarKind.JSON_OBJECT: self.json_object or None,
            GrammarKind.REGEX: self.regex,
            GrammarKind.CHOICE: self.choice,
            GrammarKind.GRAMMAR: self.grammar,
        }
        return [kind for kind, value in values.items() if value is not None]

    def _text(self, kind: GrammarKind) -> str:
        match kind:
            case GrammarKind.JSON:
                return schema_text(self.json_schema)
            case GrammarKind.JSON_OBJECT:
                return ""
            case GrammarKind.REGEX:
                return self.regex or ""
            case GrammarKind.CHOICE:
                return json.dumps(list(dict.fromkeys(self.choice or [])))
            case GrammarKind.GRAMMAR:
                return self.grammar or ""


def schema_text(schema: dict[str, Any] | str | None) -> str:
    """The schema as JSON; the order of properties stays, for it is the order in the text.

    Raises:
        PydanticCustomError: it is no schema, or too large or deep a one.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise _mistake("json is no JSON; send the schema as an object") from error
    if not isinstance(schema, dict):
        raise _mistake("json is no object; a schema is one")
    if is_deeper_than(schema, MAX_DEPTH):
        raise _mistake(f"The schema is nested more than {MAX_DEPTH} deep; flatten it, or use $ref")
    if not is_text(schema):
        raise _mistake("Holds half of a surrogate pair, which is no character; send both or none")
    text = json.dumps(schema)
    if len(text) > MAX_GRAMMAR_CHARACTERS:
        raise _mistake(f"Is longer than {MAX_GRAMMAR_CHARACTERS} characters; shorten it")
    return text


def is_text(value: object) -> bool:
    """Whether all strings of a JSON value are text, which half of a surrogate pair is not."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_deeper_than(value: object, depth: int) -> bool:
    """Whether objects and lists of a JSON value are nested deeper than so many."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _mistake(message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_structured_outputs", "{message}", {"message": message})
