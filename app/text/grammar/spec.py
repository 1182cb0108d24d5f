"""What a request wants its text to look like: parsed, bounded, frozen."""

from dataclasses import dataclass, field
from enum import StrEnum


class GrammarKind(StrEnum):
    """The ways to say it, as fields of a body's `structured_outputs`."""

    JSON = "json"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarSpec:
    """One kind and its text: a JSON schema, a regex, a JSON list of strings, or a grammar."""

    kind: GrammarKind
    text: str
    origin: str | None = field(default=None, compare=False)  # the body's field, for errors
