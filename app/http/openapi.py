"""Mends the OpenAPI document that the framework makes. `app/main.py` has it done once.

The framework reads every bound as a float: integers are then bounded by 1.0, and the largest seed
is off by one. It also lists schemas that nothing refers to. Nothing else changes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.json_schema import JsonSchemaValue

SCHEMAS = "#/components/schemas/"
BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})


def restore_bounds(document: dict[str, Any], exact: Mapping[str, JsonSchemaValue]) -> None:
    """Write the bounds of the `exact` schemas, by their names, into those of the document."""
    _copy_bounds(exact, document.get("components", {}).get("schemas", {}))


def drop_unused_schemas(document: dict[str, Any]) -> None:
    """Leave out the schemas that no path needs."""
    schemas = document.get("components", {}).get("schemas", {})
    needed, found = set(), set(_references(document.get("paths", {})))
    while found:
        needed |= found
        found = {each for name in found for each in _references(schemas[name])} - needed
    for name in schemas.keys() - needed:
        del schemas[name]


def _references(part: object) -> Iterator[str]:
    """The names of schemas that a part of the document refers to."""
    if isinstance(part, str) and part.startswith(SCHEMAS):
        yield part.removeprefix(SCHEMAS)
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _copy_bounds(exact: object, published: object) -> None:
    """Into `published`, which has the same shape as `exact` but lacks what says nothing."""
    if isinstance(exact, Mapping) and isinstance(published, dict):
        for key in exact.keys() & published.keys():
            if key in BOUNDS and not isinstance(exact[key], dict):
                published[key] = exact[key]
            else:
                _copy_bounds(exact[key], published[key])
    elif isinstance(exact, list) and isinstance(published, list):
        for part, published_part in zip(exact, published, strict=True):
            _copy_bounds(part, published_part)
