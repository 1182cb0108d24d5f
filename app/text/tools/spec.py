"""The functions that a request offers to the model, and which of them may or must be called.

Bodies make these; `app.text.chat_template` shows the functions to the model and `grammar` holds the
model to them.
"""

import json
from dataclasses import dataclass
from typing import Any

NO_PARAMETERS = '{"type": "object", "properties": {}, "additionalProperties": false}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function, as its caller describes it."""

    name: str  # letters, digits, underscores, dashes and dots: fit for JSON as it is
    field: str  # where the body holds its schema, for errors: `tools.0.function.parameters`
    description: str | None = None
    parameters: str = NO_PARAMETERS  # a JSON schema of an object, as JSON
    is_strict: bool = True  # False: what cannot be enforced of the schema is not refused

    def as_tool(self) -> dict[str, Any]:
        """The function as chat templates take it."""
        described = {} if self.description is None else {"description": self.description}
        shown = {"name": self.name, **described, "parameters": json.loads(self.parameters)}
        return {"type": "function", "function": shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """What a request offers, and what the model may do with it. At least one may be called."""

    functions: tuple[Function, ...]  # all that the model is told of
    callable_names: frozenset[str]  # those that it may call
    must_call: bool = False  # True: the text is calls and nothing else
    allows_several: bool = True  # calls in one answer

    @property
    def callables(self) -> tuple[Function, ...]:
        """The functions that may be called, in order."""
        return tuple(each for each in self.functions if each.name in self.callable_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call that a model made."""

    id: str
    name: str
    arguments: str  # a JSON object; cut short where the text was
