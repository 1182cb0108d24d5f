"""The fields that every `POST /generate` body has, whatever its strategy.

`request_models.py` extends `GenerateBody` with the fields of each strategy. Bounds that depend on
the model are checked later, in `preparation.py`; the bounds here only keep every value sane.
"""

from dataclasses import fields
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.bodies.adjustment_fields import AdjustmentFields
from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import StructuredOutputs
from app.bodies.trace_bodies import DetailsBody
from app.text.codec import UNDECODABLE
from app.text.request import Conversation, Message, TextRequest
from decoding.base import Strategy
from decoding.errors import InvalidParameter
from engine.prompt_lookup import PromptLookup

MAX_TEXT_CHARACTERS = 2_000_000
MAX_TEXTS = 128
MAX_MESSAGES = 1024
MAX_ROLE_CHARACTERS = 64
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 128
MAX_TOKENS = 10_000_000  # beyond any model's context
MAX_DRAFT_TOKENS = 64
MAX_ALTERNATIVES = 20
MAX_SEED = 2**63 - 1


def _check_stop(text: str) -> str:
    if UNDECODABLE in text:
        raise PydanticCustomError(
            "invalid_stop",
            "Holds U+FFFD, which stands for bytes that are no text; name the text around it only",
        )
    return text


def _string_or_list(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<string>"


def _flag_or_object(value: object) -> str:
    return "<object>" if isinstance(value, dict | DetailsBody) else "<flag>"


# A bound on the length also makes Pydantic refuse lone surrogates, which no tokenizer takes.
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
Stop = Annotated[
    str,
    Field(min_length=1, max_length=MAX_STOP_CHARACTERS),
    AfterValidator(_check_stop),
]
# The names in angle brackets mark which branch an error is about; `request_errors` drops them.
TextOrList = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS), Tag("<list>")],
    Discriminator(_string_or_list),
]
StopOrList = Annotated[
    Annotated[Stop, Tag("<string>")]
    | Annotated[list[Stop], Field(max_length=MAX_STOPS), Tag("<list>")],
    Discriminator(_string_or_list),
]
DetailsOrFlag = Annotated[
    Annotated[bool, Tag("<flag>")] | Annotated[DetailsBody, Tag("<object>")],
    Discriminator(_flag_or_object),
]
TokenCount = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class MessageBody(StrictModel):
    """One turn of a conversation."""

    role: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_ROLE_CHARACTERS,
            description="Who speaks; usually `system`, `user` or `assistant`.",
        ),
    ]
    content: Text = Field(description="What they say.")


class GenerateBody(AdjustmentFields):
    """What all bodies share. Of `text` and `messages` exactly one, of the lengths at most one."""

    strategy_type: ClassVar[type[Strategy]]

    text: TextOrList | None = Field(
        default=None,
        description="The prompt, or a list of prompts that are answered side by side.",
    )
    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)] | None = (
        Field(
            default=None,
            description="A conversation, for models with a chat template. If the last message is "
            "the assistant's, it is continued; otherwise a new one is begun.",
        )
    )
    max_new_tokens: TokenCount | None = Field(
        default=None,
        description="The most tokens to generate; 50 if max_length is not given either.",
    )
    max_length: TokenCount | None = Field(
        default=None, description="The most tokens of prompt and new text together."
    )
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None,
        description="Makes random draws repeatable: the same request and seed give the same "
        "tokens. Drawn by the server, and reported, if the strategy is random and it is missing.",
    )
    stop: StopOrList | None = Field(
        default=None,
        description="A string, or a list of strings, that end the text; it is cut before them.",
    )
    structured_outputs: StructuredOutputs | None = Field(
        default=None,
        description="Holds the text to a JSON schema, a regex, a choice or a grammar.",
    )
    guidance_scale: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        default=1.0,
        description="Classifier-free guidance: above 1 the text keeps closer to the prompt and "
        "away from negative_prompt. Takes two rows a sequence; 1: none.",
    )
    negative_prompt: Text | None = Field(
        default=None,
        description="What guidance leads away from; without it, the prompt's last token alone.",
    )
    prompt_lookup_num_tokens: Annotated[int, Field(ge=0, le=MAX_DRAFT_TOKENS)] = Field(
        default=0,
        description="Guesses so many tokens at once by finding the newest ones earlier in the "
        "text: faster where text is copied, and never another answer. 0: no guessing.",
    )
    max_matching_ngram_size: Annotated[int, Field(ge=1, le=MAX_DRAFT_TOKENS)] = Field(
        default=3,
        description="How many tokens are compared at most to find where the text repeats itself.",
    )
    return_full_text: bool | None = Field(
        default=None,
        description="Whether generated_text begins with the prompt. By default true for `text`, "
        "false for `messages`, whose prompt is the conversation as the model reads it.",
    )
    cache: bool | None = Field(
        default=None,
        description="true: answer from the response cache, also a random request without a seed, "
        "whose first answer is then kept. false: neither look there nor store. By default the "
        "cache is used where the answer is determined: no randomness, or a seed.",
    )
    deterministic: bool = Field(
        default=False,
        description="true: refuse the request unless this server's runtime gives the same tokens "
        "and log-probabilities for the same request and seed, to the last bit, whatever else runs.",
    )
    details: DetailsOrFlag = Field(
        default=False,
        description="Add timings and tokens to the response; as an object, also say what else: "
        '`{"trace": true}` adds the decode itself, step by step.',
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] = Field(
        default=0,
        description="Report so many of the most likely tokens at each generated place, with their "
        "log-probabilities under the model. Adds `details`.",
    )
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        default=None,
        description="Report the log-probability of each token of the prompt but the first, and so "
        "many of the most likely tokens at its place. Adds `details`.",
    )

    _strategy: Strategy = PrivateAttr()

    @property
    def is_list(self) -> bool:
        """Whether `text` is a list, so that the answer is one too."""
        return isinstance(self.text, list)

    def as_requests(self) -> list[TextRequest]:
        """One request for each prompt, in order."""
        return [self._as_request(prompt, field) for field, prompt in self._prompts().items()]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) == (self.messages is None):
            mistake = ", not both" if self.messages is not None else ""
            raise _contradiction("text", f"Give text or messages{mistake}")
        if self.max_new_tokens is not None and self.max_length is not None:
            raise _contradiction("max_length", "Give max_new_tokens or max_length, not both")
        if self.negative_prompt is not None and self.guidance_scale == 1.0:
            raise _contradiction("negative_prompt", "Has no effect at guidance_scale 1; raise it")
        if self.prompt_lookup_num_tokens and self.guidance_scale != 1.0:
            raise _contradiction(
                "prompt_lookup_num_tokens", "Guided texts cannot be guessed ahead; leave it out"
            )
        self._strategy = self._build_strategy()
        return self

    def _build_strategy(self) -> Strategy:
        names = [field.name for field in fields(self.strategy_type)]  # type: ignore[arg-type]
        try:
            return self.strategy_type(**{name: getattr(self, name) for name in names})
        except InvalidParameter as error:
            raise _contradiction(error.field, error.message) from error

    def _prompts(self) -> dict[str, str | Conversation]:
        """The prompts by the field that holds each, written as errors write it."""
        if self.messages is not None:
            turns = (Message(role=turn.role, content=turn.content) for turn in self.messages)
            return {"messages": tuple(turns)}
        if isinstance(self.text, list):
            return {f"text.{index}": text for index, text in enumerate(self.text)}
        return {"text": self.text or ""}

    def _as_request(self, prompt: str | Conversation, field: str) -> TextRequest:
        stops = self.stop or []
        full, structure = self.return_full_text, self.structured_outputs
        return TextRequest(
            prompt=prompt,
            prompt_field=field,
            strategy=self._strategy,
            max_new_tokens=self.max_new_tokens,
            max_length=self.max_length,
            seed=self.seed,
            stop=tuple(dict.fromkeys([stops] if isinstance(stops, str) else stops)),
            return_full_text=isinstance(prompt, str) if full is None else full,
            adjustments=self.as_adjustments(),
            lookup=self._lookup(),
            guidance_scale=self.guidance_scale,
            negative_prompt=self.negative_prompt,
            grammar=None if structure is None else structure.as_spec(),
            cache=self.cache,
            details=self.details is not False
            or self.top_logprobs > 0
            or self.prompt_logprobs is not None,
            deterministic=self.deterministic,
            top_logprobs=self.top_logprobs,
            prompt_logprobs=self.prompt_logprobs,
            trace=None if isinstance(self.details, bool) else self.details.as_options(),
        )

    def _lookup(self) -> PromptLookup | None:
        if not self.prompt_lookup_num_tokens:
            return None
        return PromptLookup(
            num_tokens=self.prompt_lookup_num_tokens, max_ngram_size=self.max_matching_ngram_size
        )


def _contradiction(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("contradiction", "{message}", {"message": message, "field": field})
