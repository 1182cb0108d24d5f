"""TGI's `grammar` parameter: a kind and its value, as one of our `structured_outputs`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import StructuredOutputs


class JsonGrammar(StrictModel):
    """The text is JSON that satisfies a schema."""

    type: Literal["json", "json_object"]
    value: dict[str, Any] | str = Field(description="The schema, as an object or as JSON.")


class RegexGrammar(StrictModel):
    """The whole text matches a regular expression."""

    type: Literal["regex"]
    value: str = Field(description="The expression.")


class NamedSchema(StrictModel):
    """A JSON schema with a name, in OpenAI's form."""

    json_schema: dict[str, Any] = Field(alias="schema", description="The schema.")
    name: str | None = Field(default=None, description="For people; nothing depends on it.")
    strict: Literal[True] = Field(default=True, description="A schema is always kept to.")


class JsonSchemaGrammar(StrictModel):
    """As `json`, with a name."""

    type: Literal["json_schema"]
    value: NamedSchema = Field(description="The schema and its name.")


def structure_of(grammar: JsonGrammar | RegexGrammar | JsonSchemaGrammar) -> StructuredOutputs:
    """The same as `structured_outputs`.

    Raises:
        ValidationError: what is given as a schema is none.
    """
    match grammar:
        case JsonGrammar(value=schema):
            return StructuredOutputs.model_validate({"json": schema})
        case RegexGrammar(value=expression):
            return StructuredOutputs(regex=expression)
        case JsonSchemaGrammar(value=named):
            return StructuredOutputs.model_validate({"json": named.json_schema})


def _check_structure(
    grammar: JsonGrammar | RegexGrammar | JsonSchemaGrammar,
) -> JsonGrammar | RegexGrammar | JsonSchemaGrammar:
    structure_of(grammar)
    return grammar


Grammar = Annotated[
    JsonGrammar | RegexGrammar | JsonSchemaGrammar,
    Field(discriminator="type"),
    AfterValidator(_check_structure),
]
