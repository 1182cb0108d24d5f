"""The published schema: every strategy, its bounds, and examples that work as they are."""

import json
from dataclasses import fields

import pytest

from app.bodies.generation_fields import MAX_SEED
from decoding.registry import STRATEGIES

POSTS = ["/generate", "/generate_cached", "/generate/stream", "/generate_async"]
TGI_POSTS = ["/", "/generate_stream"]


@pytest.fixture
async def schema(service):
    response = await service.client.get("/openapi.json")
    assert response.status_code == 200
    return response.json()


def body_of(schema, path):
    return schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]


@pytest.mark.parametrize("path", POSTS)
async def test_each_route_shows_every_strategy(schema, path):
    body = body_of(schema, path)["schema"]
    if path == "/generate":
        body, tgi = body["oneOf"]
        assert tgi == body_of(schema, "/")["schema"]
    mapping = body["discriminator"]["mapping"]
    assert set(STRATEGIES) <= set(mapping)
    assert {branch["$ref"] for branch in body["oneOf"]} == set(mapping.values())
    for name, ref in mapping.items():
        model = schema["components"]["schemas"][ref.rsplit("/", 1)[1]]
        assert model["properties"]["strategy"]["const"] == name
        assert model["additionalProperties"] is False
        assert model["description"]


@pytest.mark.parametrize("path", POSTS)
async def test_each_route_declares_its_failures_in_the_one_shape(schema, path):
    responses = schema["paths"][path]["post"]["responses"]
    for status in ("400", "413", "415", "422", "500", "503"):
        schema_of = responses[status]["content"]["application/json"]["schema"]
        shapes = [each["$ref"].rsplit("/", 1)[1] for each in schema_of.get("anyOf", [schema_of])]
        to_tgi = ["TgiErrorResponse"] if path == "/generate" else []  # to bodies with `inputs`
        assert shapes == ["ErrorResponse", *to_tgi]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


async def test_each_example_works_as_it_is(service, schema):
    examples = body_of(schema, "/generate")["examples"]
    assert set(STRATEGIES) <= set(examples)
    for name in STRATEGIES:
        answer = await service.generate(**examples[name]["value"])
        assert answer["strategy"] == name
    tgi = await service.generate(**examples["tgi"]["value"])
    assert tgi["details"]["tokens"]


async def test_every_parameter_is_described(schema):
    for name, model in schema["components"]["schemas"].items():
        if name.endswith("Request"):
            for field, details in model["properties"].items():
                assert details.get("description"), (name, field)


@pytest.mark.parametrize("path", TGI_POSTS)
async def test_routes_of_tgi_show_the_parameters_of_every_strategy(schema, path):
    schemas = schema["components"]["schemas"]
    assert body_of(schema, path)["schema"] == {"$ref": "#/components/schemas/TgiRequest"}
    parameters = schemas["TgiRequest"]["properties"]["parameters"]
    assert parameters["$ref"] == "#/components/schemas/TgiParameters"
    known = schemas["TgiParameters"]
    assert known["additionalProperties"] is False
    assert set(STRATEGIES) <= set(known["properties"]["strategy"]["anyOf"][0]["enum"])
    for strategy in STRATEGIES.values():
        for field in fields(strategy):
            assert known["properties"][field.name]["description"], field.name


@pytest.mark.parametrize("path", TGI_POSTS)
async def test_routes_of_tgi_declare_its_failures(schema, path):
    responses = schema["paths"][path]["post"]["responses"]
    for status in ("422", "424", "429", "500", "503"):
        content = responses[status]["content"]["application/json"]
        assert content["schema"]["$ref"].endswith("/TgiErrorResponse")


async def test_the_document_has_no_schema_that_nothing_needs(schema):
    whole = json.dumps(schema)
    for name in schema["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in whole, name


async def test_the_stream_is_declared_as_events(schema):
    content = schema["paths"]["/generate/stream"]["post"]["responses"]["200"]["content"]
    assert list(content) == ["text/event-stream"]


def integers_of(schema):
    """Every schema of an integer in a document."""
    parts = schema.values() if isinstance(schema, dict) else schema
    nested = [part for part in parts if isinstance(part, dict | list)]
    found = [integer for part in nested for integer in integers_of(part)]
    is_integer = isinstance(schema, dict) and schema.get("type") == "integer"
    return [schema, *found] if is_integer else found


async def test_integers_are_bounded_by_integers(schema):
    bounds = [
        bound
        for integer in integers_of(schema)
        for name, bound in integer.items()
        if "imum" in name.lower()
    ]
    assert len(bounds) > 20
    assert {type(bound) for bound in bounds} == {int}


@pytest.mark.parametrize("name", ["SampleRequest", "BeamRequest"])
async def test_the_largest_seed_is_the_largest_that_is_taken(service, schema, name):
    properties = schema["components"]["schemas"][name]["properties"]
    [seed] = integers_of(properties["seed"])
    assert (seed["minimum"], seed["maximum"]) == (0, MAX_SEED)
    answer = await service.generate(text="a", seed=seed["maximum"], max_new_tokens=1)
    assert answer["seed"] == MAX_SEED


async def test_the_document_stays_the_same(service, schema):
    again = await service.client.get("/openapi.json")
    assert again.json() == schema


async def test_each_operation_stands_once_under_a_method_that_the_document_shows(schema):
    operations = [
        operation["operationId"] for path in schema["paths"].values() for operation in path.values()
    ]
    assert len(operations) == len(set(operations))
    assert all(set(path) <= {"get", "post", "put", "delete"} for path in schema["paths"].values())
