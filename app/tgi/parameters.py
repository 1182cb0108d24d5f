"""TGI's `parameters`: its own fields, and beside them every strategy and field of ours.

`TgiParametersBody` is a base of bodies, as `GenerateBody` is: `request.py` has a model made of it
for each strategy. `with_strategy` first chooses the strategy that is meant when none is named.

Meanings follow TGI's router and its token chooser (text-generation-inference 3.3:
`router/src/validation.rs`, `server/text_generation_server/utils/tokens.py`).
"""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.adjustment_fields import WatermarkBody
from app.bodies.generation_fields import (
    MAX_ALTERNATIVES,
    GenerationFields,
    TokenCount,
    contradiction,
)
from app.tgi.call import TgiCall
from app.tgi.grammar import Grammar, structure_of
from decoding.base import Strategy
from decoding.best_of import BestOf
from decoding.greedy import Greedy
from decoding.sample import Sample

GREENLIST_RATIO = 0.5  # where ours, and transformers', is 0.25
NEUTRAL: Mapping[str, float] = MappingProxyType(
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "typical_p": 1.0}
)
"""What TGI's filters are when they are left out. Our own defaults cut off unlikely tokens."""
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "text": "The prompt is `inputs`, beside `parameters`.",
        "messages": "Send conversations to POST /v1/chat/completions, or to POST /generate alone.",
        "top_logprobs": "Did you mean top_n_tokens?",
        "prompt_logprobs": "Did you mean decoder_input_details?",
        "n": "Did you mean num_return_sequences, of strategy beam or sample?",
        "max_tokens": "Did you mean max_new_tokens?",
        "stream": "It belongs beside `parameters`.",
    }
)


def _refuse_adapter(_: str) -> None:
    raise PydanticCustomError(
        "unsupported", "This server has no adapters; leave it out, or serve a merged model"
    )


def _numbers_of_mark(value: object) -> object:
    """`true` is TGI's own watermark; our numbers pass as they are."""
    if value is True:
        return {"greenlist_ratio": GREENLIST_RATIO}
    return None if value is False else value


AdapterId = Annotated[str, AfterValidator(_refuse_adapter)]
Watermark = Annotated[
    WatermarkBody | None,
    BeforeValidator(_numbers_of_mark, json_schema_input_type=bool | WatermarkBody | None),
]


class TgiParametersBody(GenerationFields):
    """How `inputs` are continued: TGI's parameters, and any field of `POST /generate`.

    `strategy` chooses among all strategies, each with its fields and defaults. Without it, the text
    is greedy, or drawn from all tokens if `do_sample` or one of the filters asks for that.
    """

    example: ClassVar[Mapping[str, object]] = MappingProxyType({"max_new_tokens": 20})

    adapter_id: AdapterId | None = Field(
        default=None, description="Refused: this server has no adapters."
    )
    decoder_input_details: bool = Field(
        default=False,
        description="Report the prompt's tokens and their log-probabilities, as `prefill` of the "
        "details.",
    )
    details: bool = Field(
        default=False,
        description="Add `details`: the tokens with their log-probabilities, and how it ended.",
    )
    grammar: Grammar | None = Field(
        default=None, description="Holds the text to a JSON schema or a regex."
    )
    max_new_tokens: TokenCount | None = Field(
        default=None,
        description="The most tokens to generate; by default as many as there is room for.",
    )
    return_full_text: bool | None = Field(
        default=None,
        description="Whether generated_text begins with the prompt. By default true for POST /, "
        "false elsewhere.",
    )
    top_n_tokens: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] = Field(
        default=0,
        description="Report so many of the most likely tokens at each place, as `top_tokens`.",
    )
    truncate: TokenCount | None = Field(
        default=None,
        description="Drop the beginning of a prompt that is longer than so many tokens.",
    )
    watermark: Watermark = Field(
        default=None,
        description="true: mark the text with TGI's numbers (half of the tokens are green); or an "
        "object with other numbers.",
    )

    @model_validator(mode="after")
    def _check_parameters(self) -> Self:
        if self.truncate is not None and self.truncate_prompt_tokens is not None:
            raise contradiction("truncate_prompt_tokens", "Is the same as truncate; give one")
        if self.grammar is not None and self.structured_outputs is not None:
            raise contradiction("structured_outputs", "Give grammar or structured_outputs")
        if self._strategy.num_results > 1 and not (self.details or self.decoder_input_details):
            raise contradiction(
                "details", "Several texts are told in details.best_of_sequences; set it to true"
            )
        return self

    def as_call(self, inputs: str) -> TgiCall:
        """What is asked: to continue `inputs` like this."""
        request = replace(
            self.as_request(inputs, "inputs"),
            max_new_tokens=self.max_new_tokens,
            top_logprobs=self.top_n_tokens,
            prompt_logprobs=0 if self.decoder_input_details else None,
        )
        if self.truncate is not None:
            request = replace(request, truncate_prompt_tokens=self.truncate)
        if self.grammar is not None:
            spec = structure_of(self.grammar).as_spec()
            request = replace(request, grammar=replace(spec, origin="grammar"))
        return TgiCall(
            request=request,
            has_details=self.details or self.decoder_input_details,
            return_full_text=self.return_full_text,
        )


def with_strategy(given: object, strategies: Mapping[str, type[Strategy]]) -> object:
    """Parameters with the strategy that TGI would follow, unless they name one of `strategies`.

    No parameters at all mean a draw, as in TGI. Null stands for leaving a parameter out. What
    `do_sample` says is in the strategy then, unless it is a parameter of that strategy.

    Raises:
        PydanticCustomError: they are no object, or contradict each other; its context names the
            field then.
    """
    if given is None:
        given = {"do_sample": True}
    if not isinstance(given, dict):
        raise PydanticCustomError("dict_type", "Input should be a JSON object")
    fields = {name: value for name, value in given.items() if value is not None}
    if fields.get("best_of") == 1 and fields.get("strategy") != BestOf.name:
        del fields["best_of"]
    if fields.get("stop"):
        fields.setdefault("include_stop_str_in_output", True)
    if "strategy" not in fields:
        return _choice(fields)
    named = strategies.get(str(fields["strategy"]))
    return fields if named is None else _without_do_sample(fields, named)


def _choice(fields: dict[str, Any]) -> dict[str, Any]:
    """The parameters with a strategy, none of which was named."""
    has_filter = any(not _is_neutral(name, fields[name]) for name in NEUTRAL if name in fields)
    is_drawn = _take_do_sample(fields) or has_filter
    if "best_of" in fields:
        if not is_drawn:
            raise contradiction("best_of", "Greedy texts are all the same; set do_sample as well")
        several = {"num_return_sequences": fields["best_of"]} if fields.get("details") else {}
        return {"strategy": BestOf.name, **NEUTRAL, **several, **fields}
    if is_drawn:
        return {"strategy": Sample.name, **NEUTRAL, **fields}
    plain = {name: value for name, value in fields.items() if name not in NEUTRAL}
    return {"strategy": Greedy.name, **plain}


def _without_do_sample(fields: dict[str, Any], named: type[Strategy]) -> dict[str, Any]:
    """The parameters of a named strategy, which says itself whether it draws, or is told."""
    if any(field.name == "do_sample" for field in dataclass_fields(named)):  # type: ignore[arg-type]
        return fields
    is_deterministic: object = named.is_deterministic
    if _take_do_sample(fields) and is_deterministic is True:
        raise contradiction("do_sample", f"Strategy {named.name} draws nothing; leave it out")
    return fields


def _take_do_sample(fields: dict[str, Any]) -> bool:
    """What `do_sample` says; it is not among the parameters any more."""
    do_sample = fields.pop("do_sample", False)
    if not isinstance(do_sample, bool):
        raise contradiction("do_sample", "Input should be a valid boolean")
    return do_sample


def _is_neutral(name: str, value: object) -> bool:
    return type(value) in (int, float) and value == NEUTRAL[name]
