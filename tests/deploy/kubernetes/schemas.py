"""Validates manifests without a cluster: Kubernetes' own schemas, and those of CRDs in ../crds.

Strict as the API server is with `kubectl apply --validate=strict`: a field that no schema knows is
an error. Rules written in CEL are not evaluated; nothing that runs offline from PyPI does.
"""

import json
from functools import cache
from pathlib import Path

import kubernetes_validate
from jsonschema import Draft202012Validator, ValidationError

CRDS = Path(__file__).parents[1] / "crds"
VERSIONS = tuple(f"1.{minor}" for minor in range(31, 38))


def problems(resource: dict, version: str) -> list[str]:
    """What is wrong with a manifest for that version of Kubernetes; nothing: it is valid."""
    custom = custom_validator(resource["apiVersion"], resource["kind"])
    if custom is not None:
        return [_told(resource, error) for error in custom.iter_errors(resource)]
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except ValidationError as error:
        return [_told(resource, error)]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


@cache
def custom_validator(api_version: str, kind: str) -> Draft202012Validator | None:
    """For a kind whose CustomResourceDefinition is kept here."""
    path = CRDS / f"{kind}.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    assert (kept["apiVersion"], kept["kind"]) == (api_version, kind)
    schema = closed(kept["schema"])
    # The API server knows these of every object.
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}}
    return Draft202012Validator(schema)


def closed(schema: object) -> object:
    """The schema as JSON Schema that refuses unknown fields, as a structural schema prunes them."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    # `properties` may hold a property of that name, which is a schema itself.
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
        if not is_open and "additionalProperties" not in schema:
            made["additionalProperties"] = False
        if schema.get("x-kubernetes-embedded-resource"):
            made["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    if isinstance(schema.get("pattern"), str):  # Go takes a flag anywhere, Python at the beginning
        made["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    return made


def _told(resource: dict, error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    return f"{resource['kind']} {resource['metadata']['name']}: {where}: {error.message}"
