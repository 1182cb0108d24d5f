"""The body of `POST /v1/completions`."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, ClassVar, Self

from pydantic import Discriminator, Field, Tag, model_validator

from app.bodies.adjustment_fields import TokenId
from app.bodies.generation_fields import (
    MAX_ALTERNATIVES,
    MAX_TOKENS,
    Text,
    contradiction,
)
from app.bodies.request_fields import MAX_TEXTS
from app.openai.fields import OpenAIFields
from app.text.request import Prompt, TextRequest, TokenPrompt

DEFAULT_MAX_TOKENS = 16  # as OpenAI's
MAX_PROMPT_TOKENS = 1_000_000

TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=MAX_PROMPT_TOKENS)]


def _kind_of(value: object) -> str:
    if not isinstance(value, list):
        return "<string>"
    first = value[0] if value else ""
    if isinstance(first, list):
        return "<token lists>"
    return "<strings>" if isinstance(first, str) else "<tokens>"


AnyPrompt = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS), Tag("<strings>")]
    | Annotated[TokenIds, Tag("<tokens>")]
    | Annotated[list[TokenIds], Field(max_length=MAX_TEXTS), Tag("<token lists>")],
    Discriminator(_kind_of),
]


class CompletionBody(OpenAIFields):
    """A prompt and how to continue it."""

    example: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"prompt": "The best way to learn a language is", "max_tokens": 20}
    )

    prompt: AnyPrompt = Field(
        description="A string, a list of strings, the ids of tokens, or a list of such lists."
    )
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] = Field(
        default=DEFAULT_MAX_TOKENS,
        description="The most tokens to generate. 0, with echo: only look at the prompt.",
    )
    echo: bool = Field(
        default=False,
        description="Begin the text with the prompt; with logprobs, report its tokens too.",
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        default=None,
        description="Report each token's log-probability, and so many of the most likely tokens "
        "at its place.",
    )

    def as_requests(self) -> list[TextRequest]:
        """One request for each prompt, in order."""
        return [self._request(prompt, field) for field, prompt in self._prompts().items()]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise contradiction("max_tokens", "Is 0, so there is nothing to answer; set echo")
        if self.stream and self.echo and self.logprobs is not None:
            raise contradiction(
                "stream", "Log-probabilities of a prompt come with whole answers only; leave it out"
            )
        return self

    def _prompts(self) -> dict[str, Prompt]:
        """The prompts by the field that holds each, written as errors write it."""
        if isinstance(self.prompt, str):
            return {"prompt": self.prompt}
        if isinstance(self.prompt[0], int):
            return {"prompt": _as_prompt(self.prompt)}
        return {f"prompt.{at}": _as_prompt(each) for at, each in enumerate(self.prompt)}

    def _request(self, prompt: Prompt, field: str) -> TextRequest:
        """Without new tokens one is generated all the same, for the engine; it is not shown."""
        return replace(
            self.as_request(prompt, field),
            max_new_tokens=self.max_tokens or 1,
            top_logprobs=self.logprobs or 0,
            prompt_logprobs=self.logprobs if self.echo else None,
        )


def _as_prompt(given: object) -> Prompt:
    if isinstance(given, str):
        return given
    assert isinstance(given, list), "the body has been validated"
    return TokenPrompt(ids=tuple(given))
