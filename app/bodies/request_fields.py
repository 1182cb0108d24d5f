"""The fields that every `POST /generate` body has, whatever its strategy.

What it shares with the bodies of other APIs is in `generation_fields.py`; `request_models.py` adds
the fields of each strategy.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, ClassVar, Self

from pydantic import Discriminator, Field, Tag, model_validator

from app.bodies.generation_fields import (
    MAX_ALTERNATIVES,
    GenerationFields,
    Text,
    TokenCount,
    contradiction,
    string_or_list,
)
from app.bodies.strict_model import StrictModel
from app.bodies.trace_bodies import DetailsBody
from app.text.request import DEFAULT_NEW_TOKENS, Conversation, Message, TextRequest

MAX_TEXTS = 128
MAX_MESSAGES = 1024
MAX_ROLE_CHARACTERS = 64


def _flag_or_object(value: object) -> str:
    return "<object>" if isinstance(value, dict | DetailsBody) else "<flag>"


# The names in angle brackets mark which branch an error is about; `request_errors` drops them.
TextOrList = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS), Tag("<list>")],
    Discriminator(string_or_list),
]
DetailsOrFlag = Annotated[
    Annotated[bool, Tag("<flag>")] | Annotated[DetailsBody, Tag("<object>")],
    Discriminator(_flag_or_object),
]


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

    def as_message(self) -> Message:
        """The same, frozen."""
        return Message(role=self.role, content=self.content)


class GenerateBody(GenerationFields):
    """What all bodies share. Of `text` and `messages` exactly one, of the lengths at most one."""

    example: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"text": "The best way to learn a language is", "max_new_tokens": 20}
    )

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
    return_full_text: bool | None = Field(
        default=None,
        description="Whether generated_text begins with the prompt. By default true for `text`, "
        "false for `messages`, whose prompt is the conversation as the model reads it.",
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
            raise contradiction("text", f"Give text or messages{mistake}")
        if self.max_new_tokens is not None and self.max_length is not None:
            raise contradiction("max_length", "Give max_new_tokens or max_length, not both")
        return self

    def _prompts(self) -> dict[str, str | Conversation]:
        """The prompts by the field that holds each, written as errors write it."""
        if self.messages is not None:
            return {"messages": tuple(turn.as_message() for turn in self.messages)}
        if isinstance(self.text, list):
            return {f"text.{index}": text for index, text in enumerate(self.text)}
        return {"text": self.text or ""}

    def _as_request(self, prompt: str | Conversation, field: str) -> TextRequest:
        full = self.return_full_text
        has_length = self.max_new_tokens is not None or self.max_length is not None
        return replace(
            self.as_request(prompt, field),
            max_new_tokens=self.max_new_tokens if has_length else DEFAULT_NEW_TOKENS,
            max_length=self.max_length,
            return_full_text=isinstance(prompt, str) if full is None else full,
            details=self.details is not False
            or self.top_logprobs > 0
            or self.prompt_logprobs is not None,
            top_logprobs=self.top_logprobs,
            prompt_logprobs=self.prompt_logprobs,
            trace=None if isinstance(self.details, bool) else self.details.as_options(),
        )
