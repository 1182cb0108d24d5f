"""What the bodies of completions and of chats share, under the names of OpenAI's API.

`null` stands for a field that is left out, as there. What is refused, and what to do instead, is
in `REFUSED`; nothing is taken and then ignored.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from app.bodies.generation_fields import GenerationFields, contradiction
from app.bodies.request_models import StrategyUnion
from app.bodies.strict_model import StrictModel
from app.openai.default_strategy import DefaultStrategy
from app.openai.other_servers import HINTS, without_what_is_so
from app.text.request import Prompt, TextRequest
from decoding.base import Strategy

MAX_NAME_CHARACTERS = 1024
MAX_USER_CHARACTERS = 512
MAX_METADATA = 16  # pairs, and the lengths of their parts: as OpenAI's
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "suffix": "This model writes on from a prompt only; leave it out.",
        "functions": "Send tools instead.",
        "function_call": "Send tool_choice instead.",
        "audio": "This server answers with text; leave it out.",
        "modalities": "This server answers with text; leave it out.",
        "prediction": "Send prompt_lookup_num_tokens, which finds copied text by itself.",
        "reasoning_effort": "The model's chat template decides how it thinks; leave it out.",
        "verbosity": "Say it in the prompt; leave it out.",
        "web_search_options": "This server searches nothing; leave it out.",
        "prompt_cache_key": "Prompts find their cached beginnings by themselves; leave it out.",
        "prompt_cache_retention": "Prompts find their cached beginnings by themselves.",
        "safety_identifier": "Send user, which is written to the log.",
        "previous_response_id": "Nothing is stored here; send the whole conversation as input.",
        "conversation": "Nothing is stored here; send the whole conversation as input.",
        "prompt": "Send messages to a chat, and input to a response.",
        "reasoning": "The model's chat template decides how it thinks; leave it out.",
        "max_tool_calls": "No tools are run here; send parallel_tool_calls: false for one call.",
        "max_new_tokens": "Did you mean max_tokens?",
        "min_tokens": "Did you mean min_new_tokens?",
        "use_beam_search": "Did you mean strategy: beam?",
        "beam_width": "Did you mean num_beams, of strategy beam?",
        "guided_json": "Did you mean structured_outputs.json?",
        "guided_regex": "Did you mean structured_outputs.regex?",
        "guided_choice": "Did you mean structured_outputs.choice?",
        "guided_grammar": "Did you mean structured_outputs.grammar?",
        "do_sample": "Leave it out; send temperature 0 for no randomness.",
        **HINTS,
    }
)

Key = Annotated[str, Field(max_length=MAX_KEY_CHARACTERS)]
Value = Annotated[str, Field(max_length=MAX_VALUE_CHARACTERS)]


class StreamOptions(StrictModel):
    """What else a stream holds."""

    include_usage: bool = Field(
        default=False,
        description="Adds a last chunk without choices that holds the usage of the whole request.",
    )


class OpenAIFields(GenerationFields):
    """What both bodies have beside prompt, lengths and log-probabilities."""

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({"num_return_sequences": "n"})

    model: Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)] | None = Field(
        default=None,
        description="The model's name, as GET /v1/models tells it; without it, the one there is.",
    )
    stream: bool = Field(
        default=False, description="true: send tokens as they come, as server-sent events."
    )
    stream_options: StreamOptions | None = Field(
        default=None, description="What else the stream holds; only with stream."
    )
    user: Annotated[str, Field(max_length=MAX_USER_CHARACTERS)] | None = Field(
        default=None,
        description="Who of your users asks. Written to the log with the request's id.",
    )
    service_tier: Literal["auto", "default"] | None = Field(
        default=None, description="There is one tier; named in the answer if it is asked for."
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema of the fields, each of which may be null if it may be left out."""
        described = handler.resolve_ref_schema(handler(schema))
        for name, field in described["properties"].items():
            if name not in described.get("required", ()):
                described["properties"][name] = _nullable(field)
        return described

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def build_strategy(self) -> Strategy:
        """The strategy that is named, or what the default comes down to."""
        chosen = super().build_strategy()
        return chosen.resolved() if isinstance(chosen, DefaultStrategy) else chosen

    def as_requests(self) -> list[TextRequest]:
        """One request for each prompt, in order."""
        raise NotImplementedError

    def as_request(self, prompt: Prompt, field: str) -> TextRequest:
        """Answers hold the continuation alone, whatever the prompt."""
        return replace(super().as_request(prompt, field), return_full_text=False)

    @model_validator(mode="after")
    def _check_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise contradiction(
                "stream_options", "Is for streams only; leave it out, or set stream"
            )
        return self


class OpenAIUnion(StrategyUnion):
    """A `StrategyUnion` whose bodies may name no strategy, and in which null means left out."""

    def __init__(self, strategies: Mapping[str, type[Strategy]], base: type[OpenAIFields]) -> None:
        known: dict[str, Any] = {**strategies, DefaultStrategy.name: DefaultStrategy}
        super().__init__(known, base=base, default=DefaultStrategy.name, elsewhere=REFUSED)

    def __get_pydantic_core_schema__(
        self, source: type[GenerationFields], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The union, of bodies without nulls and without what goes without saying."""
        return core_schema.no_info_before_validator_function(
            _tidied, super().__get_pydantic_core_schema__(source, handler)
        )


def _nullable(field: JsonSchemaValue) -> JsonSchemaValue:
    """A field that may also be null; what is said of it stays outside."""
    if {"type": "null"} in field.get("anyOf", ()):
        return field
    said: JsonSchemaValue = {
        key: field.pop(key) for key in ("description", "title", "default") if key in field
    }
    return {**said, "anyOf": [field, {"type": "null"}]}


def _tidied(body: object) -> object:
    if not isinstance(body, dict):
        return body
    return without_what_is_so({name: value for name, value in body.items() if value is not None})
