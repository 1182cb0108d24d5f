"""The body that TGI's clients send: `inputs`, `parameters`, `stream`.

Routes annotate a body with `TgiUnion`, which validates it as the model made for the strategies that
there are. In the API's document the parameters are one flat object, as TGI's own, with the fields
of all strategies.
"""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from app.bodies.generation_fields import GenerationFields, Text
from app.bodies.request_errors import failure
from app.bodies.request_models import StrategyUnion
from app.bodies.strict_model import StrictModel
from app.tgi.call import TgiCall
from app.tgi.parameters import ELSEWHERE, TgiParametersBody, with_strategy
from decoding.base import Strategy
from decoding.greedy import Greedy


class TgiRequest(StrictModel):
    """A text to continue, as TGI's clients send it."""

    inputs: Annotated[Text, Field(min_length=1, description="The prompt.")]
    parameters: TgiParametersBody = Field(
        default=None,  # which the validator makes parameters of
        validate_default=True,
        description="How to continue it. Without any parameters the text is drawn at random.",
    )
    stream: bool | None = Field(
        default=None,
        description="true: answer with server-sent events, as /generate_stream always does.",
    )

    def as_call(self) -> TgiCall:
        """What it asks for."""
        return self.parameters.as_call(self.inputs)


class TgiUnion:
    """Metadata for a `TgiRequest` annotation: its parameters may be those of any strategy.

    Raises:
        InvalidStrategy: a strategy has a field with a name that TGI uses already.
    """

    def __init__(self, strategies: Mapping[str, type[Strategy]]) -> None:
        self.model = _build_model(strategies)

    def __get_pydantic_core_schema__(
        self, _source: type[TgiRequest], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The model in place of the base that the annotation names."""
        return handler.generate_schema(self.model)


def _build_model(strategies: Mapping[str, type[Strategy]]) -> type[TgiRequest]:
    inherited = TgiRequest.model_fields["parameters"]
    parameters: Any = Annotated[Any, _ParametersUnion(strategies)]
    field = Field(default=None, validate_default=True, description=inherited.description)
    return create_model(
        "TgiRequest",
        __base__=TgiRequest,
        __doc__=TgiRequest.__doc__,
        parameters=(parameters, field),
    )


class _ParametersUnion(StrategyUnion):
    """Metadata of the parameters: those of the strategy that they name, or mean."""

    def __init__(self, strategies: Mapping[str, type[Strategy]]) -> None:
        super().__init__(
            strategies, base=TgiParametersBody, default=Greedy.name, elsewhere=ELSEWHERE
        )
        self._strategies = strategies
        self._shown = _flat(self.models)

    def __get_pydantic_core_schema__(
        self, source: type[GenerationFields], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        union = super().__get_pydantic_core_schema__(source, handler)
        return no_info_before_validator_function(self._with_strategy, union)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self._shown.__pydantic_core_schema__)

    def _with_strategy(self, given: object) -> object:
        try:
            return with_strategy(given, self._strategies)
        except PydanticCustomError as error:
            if not error.context:
                raise
            location = (error.context["field"],)
            raise failure({location: (error.type, error.message())}) from error


def _flat(models: Mapping[str, type[GenerationFields]]) -> type[TgiParametersBody]:
    """All parameters of all strategies in one model; only its schema is used."""
    added: dict[str, dict[str, FieldInfo]] = {}  # by name, and by strategy
    for strategy, model in models.items():
        for name, info in model.model_fields.items():
            if name not in TgiParametersBody.model_fields and name != "strategy":
                added.setdefault(name, {})[strategy] = info
    names = Literal[tuple(models)]  # type: ignore[valid-type]
    fields: dict[str, Any] = {name: _optional(owners) for name, owners in added.items()}
    fields["strategy"] = (
        names | None,
        Field(default=None, description="How the next token is chosen; see POST /generate."),
    )
    fields["do_sample"] = (
        bool | None,
        Field(default=None, description="Draw tokens rather than take the most likely ones."),
    )
    return create_model(
        "TgiParameters", __base__=TgiParametersBody, __doc__=TgiParametersBody.__doc__, **fields
    )


def _optional(owners: Mapping[str, FieldInfo]) -> tuple[object, object]:
    """A field that these strategies have: any value that one of them takes, or none."""
    kinds = {repr(info): Annotated[info.annotation, *info.metadata] for info in owners.values()}
    names = list(owners)
    whose = f"Strategies {', '.join(names)}" if len(names) > 1 else f"Strategy {names[0]}"
    description = next(iter(owners.values())).description
    annotation: Any = reduce(or_, kinds.values())
    return annotation | None, Field(default=None, description=f"{whose}. {description}")
