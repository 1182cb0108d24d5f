"""Writes into the OpenAPI document which routes need a key, and how they refuse without one.

`app/main.py` has it done before the document is served. The door goes by paths and not by what
routes say of themselves, so the document is told by the door.
"""

from collections.abc import Iterator
from typing import Any

from app.access.gate import KEY_HEADER, Gate
from app.access.scopes import Scope

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
}
ERROR_STATUSES = ("422", "503", "409")  # whose shape the refusals of an operation share
ERROR_SCHEMA = {"$ref": "#/components/schemas/ErrorResponse"}
CHALLENGE = {"WWW-Authenticate": {"schema": {"type": "string"}}}
RETRY = {"Retry-After": {"schema": {"type": "integer"}}}


def describe_access(document: dict[str, Any], gate: Gate) -> None:
    """Add security schemes and refusals to every operation that is not open. Idempotent."""
    if gate.needs_keys:
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
    for path, method, operation in _operations(document):
        scope = gate.needed_scope(path)
        if scope is None:
            continue
        if gate.needs_keys:
            operation["security"] = [{name: []} for name in SCHEMES]
            _add(operation, "401", "No API key, or one that is not known.", CHALLENGE)
            _add(operation, "403", f"The key lacks the scope {scope}.", CHALLENGE)
            if scope is Scope.GENERATE and method == "post":
                _add(operation, "429", "The key has used up its minute.", RETRY)
        elif scope is Scope.ADMIN:
            _add(operation, "403", "No keys are set, so nobody may administer.", {})


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document.get("paths", {}).items():
        for method, operation in item.items():
            yield path, method, operation


def _add(operation: dict[str, Any], status: str, description: str, headers: dict[str, Any]) -> None:
    responses = operation["responses"]
    shared = (responses[each] for each in ERROR_STATUSES if each in responses)
    content = next(
        (response["content"] for response in shared if "content" in response),
        {"application/json": {"schema": ERROR_SCHEMA}},
    )
    responses.setdefault(
        status, {"description": description, "content": content, "headers": headers}
    )
