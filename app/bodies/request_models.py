"""Bodies with the fields of strategies: one model a strategy, made of the strategy's own fields.

Routes annotate a body with a `StrategyUnion`, which validates it as the model that its `strategy`
names. A strategy of an installed plugin appears by itself, bounds, documentation and example
included. How mistakes are worded is in `app/bodies/request_errors.py`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from dataclasses import Field as StrategyField
from functools import cache, reduce
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
    AliasChoices,
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

from app.bodies.generation_fields import GenerationFields
from app.bodies.request_errors import ELSEWHERE, BodyExplainer, tag_of
from app.bodies.request_fields import GenerateBody
from decoding.base import Strategy
from decoding.errors import InvalidStrategy
from decoding.registry import DEFAULT_STRATEGY

SCHEMA_PREFIX = "#/components/schemas/"


class Example(TypedDict):
    """An example of a body, as OpenAPI writes it."""

    summary: str
    value: dict[str, object]


class StrategyUnion:
    """Metadata for an annotation with a shared base: validate it as one of its strategies' bodies.

    Args:
        strategies: by the names that bodies call them.
        base: what all bodies share; its name, without `Body`, is part of theirs.
        default: the strategy of a body that names none.
        elsewhere: hints for fields that there are not, by name.

    Raises:
        InvalidStrategy: a strategy has a field with a name that `base` uses already.
    """

    def __init__(
        self,
        strategies: Mapping[str, type[Strategy]],
        *,
        base: type[GenerationFields] = GenerateBody,
        default: str = DEFAULT_STRATEGY,
        elsewhere: Mapping[str, str] = ELSEWHERE,
    ) -> None:
        self._base = base
        self._default = default
        self._elsewhere = elsewhere
        self.models = {
            name: build_model(strategy, base, is_default=name == default)
            for name, strategy in strategies.items()
        }

    @property
    def examples(self) -> dict[str, Example]:
        """A body for each strategy that works as it is, by the strategy's name."""
        return {name: _example(model, self._base) for name, model in self.models.items()}

    @property
    def schemas(self) -> dict[str, JsonSchemaValue]:
        """The JSON schema of each strategy's body, by its name in the API's document."""
        return {
            model.__name__: model.model_json_schema(ref_template=SCHEMA_PREFIX + "{model}")
            for model in self.models.values()
        }

    def __get_pydantic_core_schema__(
        self, source: type[GenerationFields], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The union in place of the shared base that the annotation names."""
        branches = [Annotated[model, Tag(tag_of(name))] for name, model in self.models.items()]
        union: Any = reduce(or_, branches)
        explainer = BodyExplainer(self.models, self._default, self._elsewhere)
        rules = (Discriminator(self._tag), WrapValidator(explainer))
        return handler.generate_schema(Annotated[union, *rules])

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A `oneOf` that says how `strategy` chooses."""
        schema = handler(core_schema)
        mapping = {name: SCHEMA_PREFIX + model.__name__ for name, model in self.models.items()}
        schema["discriminator"] = {"propertyName": "strategy", "mapping": mapping}
        return schema

    def _tag(self, body: object) -> str | None:
        return tag_of(body.get("strategy", self._default)) if isinstance(body, dict) else None


@cache
def build_model(
    strategy: type[Strategy],
    base: type[GenerationFields] = GenerateBody,
    *,
    is_default: bool = False,
) -> type[GenerationFields]:
    """The body of one strategy on top of `base`; if it is the default, it need not be named.

    Always the same class for the same arguments: making one costs milliseconds, and routes and
    applications share them.

    Raises:
        InvalidStrategy: one of its fields has a name that bodies use already.
    """
    hints = get_type_hints(strategy, include_extras=True)
    added: dict[str, Any] = {"strategy": _strategy_field(strategy.name, is_default=is_default)}
    for field in fields(strategy):  # type: ignore[arg-type]
        if field.name == "strategy" or hasattr(base, field.name):
            raise InvalidStrategy(f"strategy {strategy.name}: field {field.name!r} is taken")
        if field.name in base.model_fields:
            raise InvalidStrategy(f"strategy {strategy.name}: all bodies have {field.name!r}")
        name = base.renamed.get(field.name, field.name)
        added[name] = _model_field(field, hints[field.name], name)
    words = strategy.name.replace("-", "_").split("_")
    model: type[GenerationFields] = create_model(
        "".join(word.capitalize() for word in words) + _suffix(base),
        __base__=base,
        __doc__=strategy.__doc__,
        **added,
    )
    model.strategy_type = strategy
    return model


def _suffix(base: type[GenerationFields]) -> str:
    """The end of a model's name: `Request` for ours, `ChatRequest` for a `ChatBody`."""
    return base.__name__.removesuffix("Body").removeprefix("Generate") + "Request"


def _strategy_field(name: str, *, is_default: bool) -> tuple[object, object]:
    default = name if is_default else ...
    return Literal[name], Field(default=default, description="How the next token is chosen.")


def _model_field(field: StrategyField[Any], hint: object, name: str) -> tuple[object, object]:
    """A dataclass field as a Pydantic field: type and bounds stay, `Doc` is its description.

    A body that calls it `name` takes the field's own name too.
    """
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    docs = [entry.documentation for entry in metadata if isinstance(entry, Doc)]
    description = docs[0] if docs else None
    annotation = Annotated[hint, *_converters(hint)] if _converters(hint) else hint
    alias = None if name == field.name else AliasChoices(name, field.name)
    if field.default_factory is not MISSING:
        return annotation, Field(
            default_factory=field.default_factory, description=description, validation_alias=alias
        )
    default = ... if field.default is MISSING else field.default
    return annotation, Field(default=default, description=description, validation_alias=alias)


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


def _example(model: type[GenerationFields], base: type[GenerationFields]) -> Example:
    """A short request that writes out the strategy's own defaults."""
    value: dict[str, object] = dict(base.example)
    for name, field in model.model_fields.items():
        is_own = name == "strategy" or name not in base.model_fields
        if is_own and not field.is_required():
            value[name] = field.get_default(call_default_factory=True, validated_data={})
    value["strategy"] = model.strategy_type.name
    summary = (model.__doc__ or model.strategy_type.name).strip().splitlines()[0]
    return Example(summary=summary, value=value)
