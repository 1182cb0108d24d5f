"""The bodies that TGI answers with, field by field. `presentation` and `stream` build them."""

from enum import StrEnum

from pydantic import Field

from app.bodies.response_model import ResponseModel, is_absent


class TgiFinishReason(StrEnum):
    """Why a text ended, in TGI's words."""

    LENGTH = "length"
    EOS_TOKEN = "eos_token"
    STOP_SEQUENCE = "stop_sequence"


class PrefillToken(ResponseModel):
    """A token of the prompt."""

    id: int
    text: str
    logprob: float | None = Field(description="Null for the first, which follows nothing.")


class Token(ResponseModel):
    """A token that was generated, or might have been."""

    id: int
    text: str = Field(
        description="What it adds to the text; empty while a character is incomplete."
    )
    logprob: float = Field(description="Its log-probability under the model.")
    special: bool = Field(description="Whether it only marks something, and is not in the text.")


class BestOfSequence(ResponseModel):
    """Another text to the same prompt."""

    generated_text: str
    finish_reason: TgiFinishReason
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | None = Field(default=None, exclude_if=is_absent)


class TgiDetails(ResponseModel):
    """How the text came about."""

    finish_reason: TgiFinishReason
    generated_tokens: int
    seed: int | None = Field(description="The seed of random draws; null if there were none.")
    prefill: list[PrefillToken] = Field(
        description="The prompt's tokens, if decoder_input_details asked for them."
    )
    tokens: list[Token]
    best_of_sequences: list[BestOfSequence] | None = Field(
        default=None, description="All texts but the best.", exclude_if=is_absent
    )
    top_tokens: list[list[Token]] | None = Field(
        default=None,
        description="The most likely tokens at each place, if top_n_tokens asked for them.",
        exclude_if=is_absent,
    )


class TgiResponse(ResponseModel):
    """The answer to one text."""

    generated_text: str
    details: TgiDetails | None = Field(default=None, exclude_if=is_absent)


class TgiStreamDetails(ResponseModel):
    """How the text of a stream came about."""

    finish_reason: TgiFinishReason
    generated_tokens: int
    seed: int | None
    input_length: int = Field(description="Prompt tokens.")


class TgiStreamResponse(ResponseModel):
    """One event of a stream: a token. The last one also tells the whole text."""

    index: int = Field(description="Counts the tokens from 1.")
    token: Token
    top_tokens: list[Token] | None = Field(default=None, exclude_if=is_absent)
    generated_text: str | None = Field(default=None, description="Of the last event only.")
    details: TgiStreamDetails | None = Field(
        default=None, description="Of the last event only, if details asked for them."
    )


class TgiErrorResponse(ResponseModel):
    """What went wrong."""

    error: str
    error_type: str = Field(
        description="`validation`, `overloaded`, `generation`, `incomplete_generation`, or what "
        "the status says."
    )
