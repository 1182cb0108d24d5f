"""Fields of a request as people type them: NAME=VALUE. For options and the commands of a chat."""

import json
from collections.abc import Iterable


class InvalidField(ValueError):
    """Not NAME=VALUE; the message shows what to write."""


def parse_fields(pairs: Iterable[str]) -> dict[str, object]:
    """Fields by name; a value that is not JSON is a string.

    Raises:
        InvalidField: one has no name or no value.
    """
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InvalidField(f"{pair!r}: write NAME=VALUE, such as temperature=0.7")
        fields[name.strip().replace("-", "_")] = _value(value)
    return fields


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
