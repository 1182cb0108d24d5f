"""Tools as bodies of OpenAI's API offer them: functions, and which of them may or must be called.

Chats write a function within an object of its own, responses write it flat; `ToolFields` is what
both have in common. What a tool is to the model, `app.text.tools` says.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from app.bodies.generation_fields import Text, contradiction
from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import MAX_DEPTH, is_deeper_than, is_text, schema_text
from app.text.tools.spec import NO_PARAMETERS, Function, ToolUse

MAX_TOOLS = 128
MAX_ARGUMENT_CHARACTERS = 200_000
MAX_ID_CHARACTERS = 256

FunctionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
CallId = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARACTERS)]
Arguments = Annotated[str, Field(max_length=MAX_ARGUMENT_CHARACTERS)]
ChoiceWord = Literal["none", "auto", "required"]


class FunctionBody(StrictModel):
    """A function that may be called. Its arguments always satisfy its schema."""

    name: FunctionName = Field(description="Letters, digits, underscores, dashes and dots.")
    description: Text | None = Field(default=None, description="What the model is told of it.")
    parameters: dict[str, Any] | None = Field(
        default=None, description="A JSON schema of an object; without it, there are none."
    )
    strict: bool | None = Field(
        default=None,
        description="false: what cannot be enforced of the schema is left to the model, where "
        "otherwise the request is refused.",
    )

    def as_function(self, field: str) -> Function:
        """The function, whose schema the body holds in `field`.

        Raises:
            PydanticCustomError: its schema is none of an object.
        """
        return Function(
            name=self.name,
            field=field,
            description=self.description,
            parameters=NO_PARAMETERS if self.parameters is None else self._schema(field),
            is_strict=self.strict is not False,
        )

    def _schema(self, field: str) -> str:
        assert self.parameters is not None, "checked by the caller"
        if self.parameters.get("type", "object") != "object":
            raise contradiction(field, 'Arguments are an object; its "type" must be "object"')
        try:
            return schema_text(self.parameters)
        except PydanticCustomError as error:
            raise contradiction(field, error.message()) from error


class ToolBody(StrictModel):
    """A tool of a chat."""

    type: Literal["function"]
    function: FunctionBody


class Typed(StrictModel):
    """A tool by its type. Functions are all that there are here."""

    type: Literal["function"]


class FlatToolBody(FunctionBody, Typed):  # in this order mistakes tell of the type first
    """A tool of a response."""


class NameBody(StrictModel):
    """One of the functions."""

    name: FunctionName


class NamedTool(StrictModel):
    """One of a chat's tools."""

    type: Literal["function"]
    function: NameBody

    @property
    def name(self) -> str:
        """Its function's name."""
        return self.function.name


class FlatNamedTool(NameBody):
    """One of a response's tools."""

    type: Literal["function"]


class AllowedTools(StrictModel):
    """Some of a chat's tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(StrictModel):
    """Only some of a chat's tools may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class FlatAllowedChoice(StrictModel):
    """Only some of a response's tools may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatNamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


def _kind_of_choice(value: object) -> str:
    if isinstance(value, str):
        return "<word>"
    given = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<allowed>" if given == "allowed_tools" else "<named>"


ToolChoice = Annotated[
    Annotated[ChoiceWord, Tag("<word>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedChoice, Tag("<allowed>")],
    Discriminator(_kind_of_choice),
]
FlatToolChoice = Annotated[
    Annotated[ChoiceWord, Tag("<word>")]
    | Annotated[FlatNamedTool, Tag("<named>")]
    | Annotated[FlatAllowedChoice, Tag("<allowed>")],
    Discriminator(_kind_of_choice),
]
AnyChoice = ChoiceWord | NamedTool | FlatNamedTool | AllowedChoice | FlatAllowedChoice


def tool_use(
    functions: Sequence[Function], choice: AnyChoice | None, *, in_parallel: bool | None
) -> ToolUse | None:
    """What may be called; None where nothing may, and then the model is told of nothing.

    Raises:
        PydanticCustomError: the fields contradict each other.
    """
    names = [function.name for function in functions]
    for name in names:
        if names.count(name) > 1:
            raise contradiction("tools", f"Two functions are called {name}; rename one")
    if not functions:
        given = {"tool_choice": choice, "parallel_tool_calls": in_parallel}
        for field in (field for field, value in given.items() if value is not None):
            raise contradiction(field, "Is about tools, and there are none; leave it out")
        return None
    if choice == "none":
        return None
    chosen = _names_of(choice)
    for name in chosen or ():
        if name not in names:
            raise contradiction("tool_choice", f"There is no function {name} in tools; add it")
    return ToolUse(
        functions=tuple(functions),
        callable_names=frozenset(names if chosen is None else chosen),
        must_call=_must_call(choice),
        allows_several=in_parallel is not False
        and not isinstance(choice, NamedTool | FlatNamedTool),
    )


def check_arguments(arguments: str, field: str) -> None:
    """Refuse arguments of a call in the conversation that are no JSON object.

    Raises:
        PydanticCustomError: naming `field`.
    """
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or is_deeper_than(given, MAX_DEPTH) or not is_text(given):
        raise contradiction(field, "Is no JSON object; a call that was cut short cannot be sent")


def _names_of(choice: AnyChoice | None) -> list[str] | None:
    match choice:
        case NamedTool() | FlatNamedTool():
            return [choice.name]
        case AllowedChoice(allowed_tools=allowed):
            return [each.name for each in allowed.tools]
        case FlatAllowedChoice():
            return [each.name for each in choice.tools]
        case _:
            return None


def _must_call(choice: AnyChoice | None) -> bool:
    match choice:
        case AllowedChoice(allowed_tools=allowed):
            return allowed.mode == "required"
        case FlatAllowedChoice():
            return choice.mode == "required"
        case _:
            return choice not in (None, "auto")
