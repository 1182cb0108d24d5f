"""`POST /tokenize` and `/chat_tokenize` as TGI answers them. Places are counted in bytes."""

from pydantic import Field

from app.bodies.generation_fields import Text
from app.bodies.response_model import ResponseModel
from app.bodies.strict_model import StrictModel
from app.bodies.token_bodies import Messages
from app.generation.prompts import PromptReader
from app.text.tokenized_text import TokenizedText


class TgiTokenizeRequest(StrictModel):
    """A text, as TGI's clients send it."""

    inputs: Text = Field(description="The text.")


class ChatTokenizeRequest(StrictModel):
    """A conversation, for models with a chat template."""

    messages: Messages = Field(description="The conversation.")


class SimpleToken(ResponseModel):
    """One token of a text."""

    id: int
    text: str = Field(description="What the text holds at its place; empty for added tokens.")
    start: int = Field(description="Where it begins, in bytes of UTF-8.")
    stop: int = Field(description="Where it ends.")


class ChatTokenizeResponse(ResponseModel):
    """A rendered conversation and its tokens."""

    tokenize_response: list[SimpleToken]
    templated_text: str


def simple_tokens(tokenized: TokenizedText, reader: PromptReader) -> list[SimpleToken]:
    """The tokens; of tokenizers that tell no places, their texts alone, all at 0."""
    if tokenized.spans is None or tokenized.byte_spans is None:
        texts = map(reader.codec.token_text, tokenized.token_ids)
        return [
            SimpleToken(id=each, text=text, start=0, stop=0)
            for each, text in zip(tokenized.token_ids, texts, strict=True)
        ]
    places = zip(tokenized.token_ids, tokenized.spans, tokenized.byte_spans, strict=True)
    return [
        SimpleToken(id=each, text=tokenized.text[begin:end], start=start, stop=stop)
        for each, (begin, end), (start, stop) in places
    ]
