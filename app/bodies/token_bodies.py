"""The bodies of `POST /tokenize`, `/detokenize` and `/apply_template`.

Names follow vLLM and llama.cpp, so that clients of theirs are understood.
"""

from typing import Annotated, Self

from pydantic import AliasChoices, Field, model_validator

from app.bodies.adjustment_fields import TokenId
from app.bodies.generation_fields import MAX_TOKENS, Text, contradiction
from app.bodies.request_fields import MAX_MESSAGES, MessageBody
from app.bodies.response_model import ResponseModel
from app.bodies.strict_model import StrictModel

Messages = Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES)]
Tokens = Annotated[list[TokenId], Field(max_length=MAX_TOKENS)]


class TokenizeRequest(StrictModel):
    """A text or a conversation. Exactly one of them."""

    text: Text | None = Field(
        default=None,
        validation_alias=AliasChoices("text", "prompt", "content"),
        description="The text; `prompt` (vLLM) and `content` (llama.cpp) are other names for it.",
    )
    messages: Messages | None = Field(
        default=None, description="A conversation, for models with a chat template."
    )
    add_special_tokens: bool | None = Field(
        default=None,
        description="Whether `text` gets the tokens with which the tokenizer begins a text; by "
        "default true, as for a prompt. A chat template writes its own.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) == (self.messages is None):
            mistake = ", not both" if self.messages is not None else ""
            raise contradiction("text", f"Give text or messages{mistake}")
        if self.messages is not None and self.add_special_tokens is not None:
            raise contradiction(
                "add_special_tokens", "A chat template writes its own; leave it out"
            )
        return self


class TokenizeResponse(ResponseModel):
    """The tokens of a prompt. The three lists belong together."""

    tokens: list[int] = Field(description="Their ids.")
    texts: list[str] = Field(
        description="The text of each token alone; half a character shows as U+FFFD."
    )
    offsets: list[tuple[int, int]] | None = Field(
        description="Where each begins and ends in `prompt`, in characters (code points); 0 and 0 "
        "for a token that was added. Null if this model's tokenizer cannot tell."
    )
    count: int = Field(description="How many tokens there are.")
    prompt: str = Field(description="The text; of `messages`, what the chat template writes.")
    max_model_len: int = Field(description="The model's context in tokens.")


class DetokenizeRequest(StrictModel):
    """Tokens to turn into text."""

    tokens: Tokens = Field(description="Token ids.")
    skip_special_tokens: bool = Field(
        default=False, description="Whether to leave out tokens that only mark something."
    )


class DetokenizeResponse(ResponseModel):
    """Their text."""

    text: str = Field(description="The text; half a character at an end shows as U+FFFD.")
    prompt: str = Field(description="The same, as vLLM calls it.")


class ApplyTemplateRequest(StrictModel):
    """A conversation to render."""

    messages: Messages = Field(
        description="The conversation. If the last message is the assistant's, it is left open."
    )


class ApplyTemplateResponse(ResponseModel):
    """What the model reads."""

    prompt: str = Field(description="The text that POST /generate makes of these messages.")
