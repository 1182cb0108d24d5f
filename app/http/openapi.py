"""Gives the OpenAPI document back the exact bounds of its numbers.

The framework reads every bound as a float: integers are then bounded by 1.0, and the largest seed
is off by one. `app/main.py` has the document corrected before it is served; nothing else in it
changes.
"""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import JsonSchemaValue

BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})


def restore_bounds(document: dict[str, Any], exact: Mapping[str, JsonSchemaValue]) -> None:
    """Write the bounds of the `exact` schemas, by their names, into those of the document."""
    _copy_bounds(exact, document.get("components", {}).get("schemas", {}))


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
