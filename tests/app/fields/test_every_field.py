"""Every field of every body has a test that shows its effect, or its refusal by name.

One test walks the bodies that the API's document shows and fails on a field without a check; the
others run the checks. `changes.py` holds those that are a change of the text, `own*.py` the rest.
"""

from pathlib import Path

import pytest

from app.bodies.generation_fields import GenerationFields
from app.bodies.request_fields import GenerateBody
from app.openai.chat_bodies import ChatBody
from app.openai.completion_bodies import CompletionBody
from app.openai.response_bodies import ResponseBody
from decoding.registry import STRATEGIES as REGISTERED
from tests.app.fields import own_openai, own_tgi, own_tools  # noqa: F401  file their checks
from tests.app.fields.apis import APIS, GENERATE
from tests.app.fields.changes import ADJUSTMENTS, JUDGED, REQUIRED, STRATEGIES, Refused, ShownBy
from tests.app.fields.own import EVERYWHERE, OWN

ROOT = Path(__file__).parents[3]
BODIES = {  # by their models' ends
    "Chat": ChatBody,
    "Completion": CompletionBody,
    "Response": ResponseBody,
    "": GenerateBody,
}
EVERY_WAY = [
    pytest.param(api, strategy, id=f"{name}-{strategy}")
    for name, api in APIS.items()
    for strategy in STRATEGIES
    if strategy != "default" or api is not GENERATE
]


@pytest.fixture
def service(service, byte_level_tokenizer):
    service.tokenizer = byte_level_tokenizer
    return service


async def test_no_field_of_any_body_lacks_a_check(service):
    document = (await service.client.get("/openapi.json")).json()
    lacking = [
        (model, field)
        for model in sorted(bodies_of(document))
        for field in document["components"]["schemas"][model]["properties"]
        if not has_check(model, field)
    ]
    assert lacking == []


def bodies_of(document):
    """The models of all request bodies, by name."""
    names = set()
    for path in document["paths"].values():
        for operation in path.values():
            body = operation.get("requestBody", {"content": {}})
            for content in body["content"].values():
                names |= models_of(content["schema"])
    return names


def models_of(schema):
    """The models that a body may be; TGI's parameters count as a body of their own."""
    if "oneOf" in schema:
        return set().union(*map(models_of, schema["oneOf"]))
    name = schema["$ref"].rsplit("/", 1)[1]
    return {name, "TgiParameters"} if name == "TgiRequest" else {name}


def has_check(model, field):
    """Whether a field of a model is one of its own, of its strategy, or of all."""
    if (model, field) in OWN or (model == "DecisionRequest" and field in JUDGED):
        return True
    words = model.removesuffix("Request")
    end = next(end for end in BODIES if words.endswith(end))
    if (BODIES[end].__name__, field) in OWN:
        return True
    if field in GenerationFields.model_fields or field == "strategy":
        return field in ADJUSTMENTS or field in EVERYWHERE
    if model == "TgiParameters":  # which may be those of any strategy
        return any(field in own for own in STRATEGIES.values())
    name = words.removesuffix(end)
    own = next((own for each, own in STRATEGIES.items() if camel(each) == name), {})
    return {"n": "num_return_sequences"}.get(field, field) in own


def camel(strategy):
    return strategy.replace("_", " ").title().replace(" ", "")


def test_each_strategy_has_its_changes():
    assert set(STRATEGIES) == {*REGISTERED, "default"}


@pytest.mark.parametrize(("api", "strategy"), EVERY_WAY)
async def test_each_parameter_of_a_strategy_shows(service, api, strategy):
    way = {"strategy": strategy, **REQUIRED.get(strategy, {})}
    changes = STRATEGIES[strategy]
    assert [name for name in changes if not await shows(service, api, way, name, changes)] == []


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
async def test_each_adjustment_shows(service, api):
    way = {"strategy": "greedy"}
    hidden = [name for name in ADJUSTMENTS if not await shows(service, api, way, name, ADJUSTMENTS)]
    assert hidden == []


async def shows(service, api, way, name, changes):
    """Whether the change of a field changes the texts, or is refused if it is to be."""
    change = changes[name]
    if isinstance(change, ShownBy):
        return name in (ROOT / change.test).read_text()
    if isinstance(change, Refused):
        response = await api.send(service, **way, **{name: change.value})
        assert response.status_code == api.refusal, response.text
        return response.json()["error"]["param"] == api.name_of(name)
    asked = {**way, **change.beside}
    before = await api.ask(service, **asked)
    return before != await api.ask(service, **{**asked, name: change.value})


@pytest.mark.parametrize("field", EVERYWHERE)
@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
async def test_each_field_of_all_bodies_shows(service, api, field):
    await EVERYWHERE[field](service, api)


@pytest.mark.parametrize(("body", "field"), OWN)
async def test_each_field_of_one_body_shows(service, body, field):
    await OWN[body, field](service)
