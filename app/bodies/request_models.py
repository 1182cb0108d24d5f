"""The bodies of `POST /generate`: one model a strategy, made of the strategy's own fields.

Routes annotate a body with `StrategyUnion`, which validates it as the model that its `strategy`
names. A strategy of an installed plugin appears by itself, bounds, documentation and example
included. How mistakes are worded is in `app/bodies/request_errors.py`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from dataclasses import Field as StrategyField
from functools import reduce
from operator import or_
from typing import (
    Annotated,
    Any,
    Literal,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    WrapValidator,
    create_model,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from typing_extensions import Doc

from app.bodies.request_errors import BodyExplainer, tag_of
from app.bodies.request_fields import GenerateBody
from decoding.base import Strategy
from decoding.errors import InvalidStrategy
from decoding.registry import DEFAULT_STRATEGY

EXAMPLE_TEXT = "The best way to learn a language is"
SCHEMA_PREFIX = "#/components/schemas/"


class Example(TypedDict):
    """An example of a body, as OpenAPI writes it."""

    summary: str
    value: dict[str, object]


class StrategyUnion:
    """Metadata for a `GenerateBody` annotation: validate it as one of the strategies' bodies."""

    def __init__(self, strategies: Mapping[str, type[Strategy]]) -> None:
        self.models = {name: build_model(strategies[name]) for name in strategies}

    @property
    def examples(self) -> dict[str, Example]:
        """A body for each strategy that works as it is, by the strategy's name."""
        return {name: _example(model) for name, model in self.models.items()}

    @property
    def schemas(self) -> dict[str, JsonSchemaValue]:
        """The JSON schema of each strategy's body, by its name in the API's document."""
        return {
            model.__name__: model.model_json_schema(ref_template=SCHEMA_PREFIX + "{model}")
            for model in self.models.values()
        }

    def __get_pydantic_core_schema__(
        self, source: type[GenerateBody], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The union in place of the shared base that the annotation names."""
        branches = [Annotated[model, Tag(tag_of(name))] for name, model in self.models.items()]
        union: Any = reduce(or_, branches)
        explainer = BodyExplainer(self.models, DEFAULT_STRATEGY)
        rules = (Discriminator(_strategy_tag), WrapValidator(explainer))
        return handler.generate_schema(Annotated[union, *rules])

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A `oneOf` that says how `strategy` chooses."""
        schema = handler(core_schema)
        mapping = {name: SCHEMA_PREFIX + model.__name__ for name, model in self.models.items()}
        schema["discriminator"] = {"propertyName": "strategy", "mapping": mapping}
        return schema


def build_model(strategy: type[Strategy]) -> type[GenerateBody]:
    """The body of one strategy.

    Raises:
        InvalidStrategy: one of its fields has a name that bodies use already.
    """
    hints = get_type_hints(strategy, include_extras=True)
    added: dict[str, Any] = {"strategy": _strategy_field(strategy.name)}
    for field in fields(strategy):  # type: ignore[arg-type]
        if field.name == "strategy" or hasattr(GenerateBody, field.name):
            raise InvalidStrategy(f"strategy {strategy.name}: field {field.name!r} is taken")
        if field.name in GenerateBody.model_fields:
            raise InvalidStrategy(f"strategy {strategy.name}: all bodies have {field.name!r}")
        added[field.name] = _model_field(field, hints[field.name])
    words = strategy.name.replace("-", "_").split("_")
    model: type[GenerateBody] = create_model(
        "".join(word.capitalize() for word in words) + "Request",
        __base__=GenerateBody,
        __doc__=strategy.__doc__,
        **added,
    )
    model.strategy_type = strategy
    return model


def _strategy_tag(body: object) -> str | None:
    return tag_of(body.get("strategy", DEFAULT_STRATEGY)) if isinstance(body, dict) else None


def _strategy_field(name: str) -> tuple[object, object]:
    default = name if name == DEFAULT_STRATEGY else ...
    return Literal[name], Field(default=default, description="How the next token is chosen.")


def _model_field(field: StrategyField[Any], hint: object) -> tuple[object, object]:
    """A dataclass field as a Pydantic field: type and bounds stay, `Doc` is its description."""
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    docs = [entry.documentation for entry in metadata if isinstance(entry, Doc)]
    description = docs[0] if docs else None
    annotation = Annotated[hint, *_converters(hint)] if _converters(hint) else hint
    if field.default_factory is not MISSING:
        return annotation, Field(default_factory=field.default_factory, description=description)
    default = ... if field.default is MISSING else field.default
    return annotation, Field(default=default, description=description)


def _converters(hint: object) -> list[BeforeValidator]:
    """What strict validation lacks for this type: JSON has no tuples, and `true` is not 1."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(plain) is tuple:
        return [BeforeValidator(_list_to_tuple)]
    if get_origin(plain) is Literal:
        return [BeforeValidator(_ExactLiteral(get_args(plain)))]
    return []


def _list_to_tuple(value: object) -> object:
    return tuple(map(_list_to_tuple, value)) if isinstance(value, list) else value


class _ExactLiteral:
    """Lets only values of the literals' own types pass: Python holds 1, 1.0 and True for equal."""

    def __init__(self, literals: tuple[object, ...]) -> None:
        self._literals = literals

    def __call__(self, value: object) -> object:
        if type(value) not in {type(literal) for literal in self._literals}:
            expected = " or ".join(repr(literal) for literal in self._literals)
            raise PydanticCustomError(
                "literal_error", "Input should be {expected}", {"expected": expected}
            )
        return value


def _example(model: type[GenerateBody]) -> Example:
    """A short request that writes out the strategy's own defaults."""
    value: dict[str, object] = {"text": EXAMPLE_TEXT, "max_new_tokens": 20}
    for name, field in model.model_fields.items():
        is_own = name == "strategy" or name not in GenerateBody.model_fields
        if is_own and not field.is_required():
            value[name] = field.get_default(call_default_factory=True, validated_data={})
    value["strategy"] = model.strategy_type.name
    summary = (model.__doc__ or model.strategy_type.name).strip().splitlines()[0]
    return Example(summary=summary, value=value)
