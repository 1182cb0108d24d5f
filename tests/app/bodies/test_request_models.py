"""What a body may hold: the models made of strategies, and the words for every mistake."""

from dataclasses import dataclass, make_dataclass
from typing import Annotated, ClassVar, Literal

import pytest
from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError
from typing_extensions import Doc

from app.bodies.generation_fields import MAX_STOPS
from app.bodies.request_fields import MAX_TEXTS, GenerateBody
from app.bodies.request_models import StrategyUnion, build_model
from decoding.errors import InvalidParameter, InvalidStrategy
from decoding.registry import STRATEGIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """Somebody else's strategy."""

    strength: Annotated[float, Ge(0.0), Le(1.0), Doc("How strong.")]
    words: tuple[str, ...] = ()
    level: Literal[1, 2] = 1

    name: ClassVar[str] = "some-plugin"
    is_deterministic: ClassVar[bool] = True
    num_rows: ClassVar[int] = 1
    num_results: ClassVar[int] = 1

    def __post_init__(self):
        if self.level == 2 and not self.words:
            raise InvalidParameter("words", "level 2 needs words")

    def start(self, task):
        raise NotImplementedError


UNION = StrategyUnion({**STRATEGIES, Plugin.name: Plugin})
BODIES = TypeAdapter(Annotated[GenerateBody, UNION])


def parse(**body):
    return BODIES.validate_python(body)


def mistakes_of(body):
    with pytest.raises(ValidationError) as caught:
        BODIES.validate_python(body)
    return {
        ".".join(map(str, error["loc"])): (error["type"], error["msg"])
        for error in caught.value.errors()
    }


def test_the_default_strategy_is_sample():
    [request] = parse(text="a").as_requests()
    assert request.strategy == STRATEGIES["sample"]()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategys_parameters_reach_it(name):
    model = UNION.models[name]
    assert model.__doc__
    [request] = parse(text="a", strategy=name, num_return_sequences=1).as_requests()
    assert request.strategy == STRATEGIES[name](num_return_sequences=1)


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"text": "a", "max_new_tokens": "5"}, "max_new_tokens", "int_type"),
        ({"text": "a", "max_new_tokens": 5.0}, "max_new_tokens", "int_type"),
        ({"text": "a", "max_new_tokens": True}, "max_new_tokens", "int_type"),
        ({"text": "a", "max_new_tokens": 0}, "max_new_tokens", "greater_than_equal"),
        ({"text": "a", "max_new_tokens": 10**400}, "max_new_tokens", "less_than_equal"),
        ({"text": "a", "max_length": 0}, "max_length", "greater_than_equal"),
        ({"text": "a", "max_length": 5, "max_new_tokens": 5}, "max_length", "contradiction"),
        ({"text": "a", "temperature": True}, "temperature", "float_type"),
        ({"text": "a", "temperature": "1"}, "temperature", "float_type"),
        ({"text": "a", "temperature": float("nan")}, "temperature", "finite_number"),
        ({"text": "a", "temperature": float("inf")}, "temperature", "finite_number"),
        ({"text": "a", "temperature": 0.0}, "temperature", "greater_than_equal"),
        ({"text": "a", "temperature": None}, "temperature", "float_type"),
        ({"text": "a", "top_p": 1.5}, "top_p", "less_than_equal"),
        ({"text": "a", "seed": -1}, "seed", "greater_than_equal"),
        ({"text": "a", "seed": 2**63}, "seed", "less_than_equal"),
        ({"text": "a", "seed": False}, "seed", "int_type"),
        ({"text": "a", "details": 1}, "details", "bool_type"),
        ({"text": "a", "cache": "yes"}, "cache", "bool_type"),
        ({"text": "a", "return_full_text": 0}, "return_full_text", "bool_type"),
        ({"text": "a", "stop": ""}, "stop", "string_too_short"),
        ({"text": "a", "stop": ["a", ""]}, "stop.1", "string_too_short"),
        ({"text": "a", "stop": "x" * 129}, "stop", "string_too_long"),
        ({"text": "a", "stop": ["x"] * (MAX_STOPS + 1)}, "stop", "too_long"),
        ({"text": "a", "stop": 5}, "stop", "string_type"),
        ({"text": "a", "stop": "\ufffd"}, "stop", "invalid_stop"),
        ({"text": 5}, "text", "string_type"),
        ({"text": []}, "text", "too_short"),
        ({"text": ["a"] * (MAX_TEXTS + 1)}, "text", "too_long"),
        ({"text": ["a", 5]}, "text.1", "string_type"),
        ({"text": "\ud800"}, "text", "string_unicode"),
        ({"text": ["a", "\udfff"]}, "text.1", "string_unicode"),
        ({}, "text", "contradiction"),
        ({"text": "a", "messages": [{"role": "user", "content": "a"}]}, "text", "contradiction"),
        ({"messages": []}, "messages", "too_short"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing"),
        ({"messages": [{"role": "", "content": ""}]}, "messages.0.role", "string_too_short"),
        (
            {"messages": [{"role": "user", "content": "a", "name": "b"}]},
            "messages.0.name",
            "extra_forbidden",
        ),
        (
            {"messages": [{"role": "user", "content": "\ud800"}]},
            "messages.0.content",
            "string_unicode",
        ),
        ({"text": "a", "strategy": "greedy", "num_return_sequences": True},
         "num_return_sequences", "literal_error"),
        ({"text": "a", "strategy": "greedy", "num_return_sequences": 2},
         "num_return_sequences", "literal_error"),
        ({"text": "a", "strategy": "beam", "num_return_sequences": 5},
         "num_return_sequences", "contradiction"),
        ({"text": "a", "strategy": "beam", "early_stopping": 1}, "early_stopping", "bool_type"),
        ({"text": "a", "strategy": "some-plugin"}, "strength", "missing"),
        ({"text": "a", "strategy": "some-plugin", "strength": 2.0}, "strength", "less_than_equal"),
        ({"text": "a", "strategy": "some-plugin", "strength": 0.5, "level": 2},
         "words", "contradiction"),
        ({"text": "a", "strategy": "some-plugin", "strength": 0.5, "words": ["a", 1]},
         "words.1", "string_type"),
        ({"text": "a", "strategy": 5}, "strategy", "unknown_strategy"),
        ({"text": "a", "strategy": None}, "strategy", "unknown_strategy"),
        ({"text": "a", "strategy": ["greedy"]}, "strategy", "unknown_strategy"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_field(body, param, code):
    mistakes = mistakes_of(body)
    assert list(mistakes) == [param]
    assert mistakes[param][0] == code


def test_a_field_of_another_strategy_names_the_strategies_that_have_it():
    mistakes = mistakes_of({"text": "a", "strategy": "greedy", "temperature": 1.0, "num_beams": 2})
    code, message = mistakes["temperature"]
    assert code == "unknown_field"
    assert message.startswith("Strategy greedy has no temperature; leave it out, or use one that")
    for name, strategy in STRATEGIES.items():
        assert (f" {name}," in message or message.endswith(f" {name}.")) == (
            "temperature" in strategy.__dataclass_fields__
        )
    assert "or use one that has it: beam, " in mistakes["num_beams"][1]


def test_an_unknown_field_comes_with_what_was_probably_meant():
    mistakes = mistakes_of({"text": "a", "max_new_token": 5, "zzz": 1})
    assert mistakes["max_new_token"][1].endswith("Did you mean max_new_tokens?")
    assert mistakes["zzz"][1] == "There is no field 'zzz'. Leave it out."


@pytest.mark.parametrize(
    ("body", "param", "remedy"),
    [
        ({"temperature": 0}, "temperature", "For no randomness use strategy greedy."),
        ({"temperature": 0, "strategy": "top_k"}, "temperature", "use strategy greedy."),
        ({"temperature": 0, "strategy": "top_p"}, "temperature", "use strategy greedy."),
        ({"temperature": -0.5}, "temperature", "greater than or equal to 0.01. For no randomness"),
        ({"num_return_sequences": 2, "strategy": "greedy"}, "num_return_sequences",
         "Input should be 1. Greedy decoding has one answer; for several use strategy beam or"),
        ({"num_return_sequences": True, "strategy": "greedy"}, "num_return_sequences",
         "use strategy beam or sample."),
        ({"num_return_sequences": 5, "strategy": "beam"}, "num_return_sequences",
         "raise num_beams or ask for fewer"),
        ({"n": 2, "strategy": "greedy"}, "n",
         "Did you mean num_return_sequences, of strategy beam or sample?"),
        ({"max_tokens": 2}, "max_tokens", "Did you mean max_new_tokens?"),
        ({"prompt": "a"}, "prompt", "Did you mean text?"),
        ({"stream": True}, "stream", "POST /generate/stream"),
        ({"stop": "a\ufffd"}, "stop", "name the text around it only"),
        ({"stop": ["a", "\ufffd"]}, "stop.1", "name the text around it only"),
        ({"text": "\ud800"}, "text", "send both or none"),
        ({"text": None, "messages": [{"role": "user"}]}, "messages.0.content", "add it"),
        ({"text": None, "messages": [{"role": "user", "content": "a", "name": "b"}]},
         "messages.0.name", "leave it out"),
        ({"text": None, "messages": ["a"]}, "messages.0", "should be a JSON object"),
        ({"strategy": "some-plugin"}, "strength", "add it"),
        ({f"field{number}": 1 for number in range(1000)}, "", "send only those"),
    ],
)  # fmt: skip
def test_a_mistake_comes_with_what_to_do_instead(body, param, remedy):
    assert remedy in mistakes_of({"text": "a"} | body)[param][1]


def test_a_remedy_is_given_only_for_values_that_it_remedies():
    for temperature in (1000.0, "1", float("nan")):
        mistakes = mistakes_of({"text": "a", "temperature": temperature})
        assert "greedy" not in mistakes["temperature"][1]


def test_an_unknown_strategy_comes_with_those_there_are():
    message = mistakes_of({"text": "a", "strategy": "gredy"})["strategy"][1]
    assert all(name in message for name in STRATEGIES)
    assert message.endswith("Did you mean greedy?")


def test_the_branches_of_a_type_are_explained_together():
    message = mistakes_of({"text": "a", "strategy": "beam", "early_stopping": "x"})
    assert message["early_stopping"][1] == (
        "Input should be a valid boolean, or: Input should be 'never'"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [([1], "not_an_object"), ("text", "not_an_object"), (b"text=a", "unsupported_media_type")],
)
def test_what_is_no_object_is_said_to_be_none(body, code):
    with pytest.raises(ValidationError) as caught:
        BODIES.validate_python(body)
    assert [error["type"] for error in caught.value.errors()] == [code]


def test_a_body_of_very_many_fields_is_refused_as_one_mistake():
    assert len(mistakes_of({f"field{number}": 1 for number in range(10_000)})) == 1


def test_a_long_input_is_not_repeated_back():
    for body in ({"strategy": "x" * 10_000}, {"x" * 10_000: 1, "text": "a"}):
        messages = [message for _, message in mistakes_of(body).values()]
        assert max(map(len, messages)) < 500


def test_a_tuple_of_a_plugin_is_read_from_a_list():
    [request] = parse(
        text="a", strategy="some-plugin", strength=0.5, level=2, words=["b"]
    ).as_requests()
    assert request.strategy == Plugin(strength=0.5, level=2, words=("b",))


def test_numbers_that_are_whole_may_stand_for_floats():
    [request] = parse(text="a", temperature=1).as_requests()
    assert request.strategy.temperature == 1.0


def test_full_text_is_returned_for_text_and_not_for_messages_unless_asked():
    messages = [{"role": "user", "content": "a"}]
    assert parse(text="a").as_requests()[0].return_full_text is True
    assert parse(messages=messages).as_requests()[0].return_full_text is False
    [asked] = parse(messages=messages, return_full_text=True).as_requests()
    assert asked.return_full_text is True


def test_stop_strings_are_kept_once_each_in_order():
    assert parse(text="a", stop=["b", "a", "b"]).as_requests()[0].stop == ("b", "a")
    assert parse(text="a", stop="b").as_requests()[0].stop == ("b",)
    assert parse(text="a", stop=[]).as_requests()[0].stop == ()


@pytest.mark.parametrize("taken", ["seed", "strategy", "model_dump", "as_requests"])
def test_a_plugin_may_not_take_a_name_that_bodies_use(taken):
    bases = (Plugin,)
    strategy = make_dataclass("Clash", [(taken, int, 1)], bases=bases, frozen=True, kw_only=True)
    with pytest.raises(InvalidStrategy, match=taken):
        build_model(strategy)


def test_the_schema_shows_how_strategy_chooses():
    schema = BODIES.json_schema(ref_template="#/components/schemas/{model}")
    refs = {branch["$ref"] for branch in schema["oneOf"]}
    assert set(schema["discriminator"]["mapping"].values()) == refs
    assert schema["discriminator"]["propertyName"] == "strategy"
    assert "SomePluginRequest" in schema["$defs"]


def test_the_schema_carries_bounds_descriptions_and_defaults():
    schema = BODIES.json_schema()
    temperature = schema["$defs"]["SampleRequest"]["properties"]["temperature"]
    assert (temperature["minimum"], temperature["maximum"]) == (0.01, 100.0)
    assert temperature["default"] == 1.0
    for model in schema["$defs"].values():
        for name, field in model["properties"].items():
            assert "description" in field or name in {"words", "level"}, name


def test_each_example_is_a_valid_body():
    for name, example in UNION.examples.items():
        if name != Plugin.name:  # it has a parameter without a default
            assert BODIES.validate_python(example["value"]).strategy == name
            assert example["summary"]
