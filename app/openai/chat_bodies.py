"""The body of `POST /v1/chat/completions`."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.generation_fields import (
    MAX_ALTERNATIVES,
    MAX_TEXT_CHARACTERS,
    Text,
    TokenCount,
    contradiction,
    string_or_list,
)
from app.bodies.request_fields import MAX_MESSAGES
from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import schema_text
from app.openai.fields import MAX_METADATA, Key, OpenAIFields, Value
from app.text.grammar.spec import GrammarKind, GrammarSpec
from app.text.request import Conversation, Message, TextRequest

MAX_PARTS = 1024
MAX_PARTICIPANT_CHARACTERS = 64


class TextPart(StrictModel):
    """A piece of a message. Models here read text only."""

    type: Literal["text"]
    text: Text


Content = Annotated[
    Annotated[Text, Tag("<string>")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), Tag("<list>")],
    Discriminator(string_or_list),
]


class ChatMessage(StrictModel):
    """One turn of a conversation."""

    role: Literal["developer", "system", "user", "assistant"] = Field(
        description="Who speaks. Chat templates know no developer: it speaks as the system."
    )
    content: Content = Field(description="What they say, as a string or in parts of text.")
    name: Annotated[str, Field(min_length=1, max_length=MAX_PARTICIPANT_CHARACTERS)] | None = Field(
        default=None,
        description="Which of those in this role speaks; for models whose template shows it.",
    )

    def as_message(self) -> Message:
        """The same as templates take it; parts are joined."""
        role = "system" if self.role == "developer" else self.role
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Message(role=role, content=text, name=self.name)


class NamedSchema(StrictModel):
    """A JSON schema with what it is called. The answer always satisfies it, strict or not."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    json_schema: dict[str, Any] = Field(alias="schema")
    description: Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)] | None = None
    strict: bool | None = None


class TextFormat(StrictModel):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(StrictModel):
    """Some JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(StrictModel):
    """JSON that satisfies a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Discriminator("type")]


class ChatBody(OpenAIFields):
    """A conversation and how to go on with it."""

    example: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 20}
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)] = Field(
        description="The conversation. If the last message is the assistant's, it is continued; "
        "otherwise a new one is begun.",
    )
    max_completion_tokens: TokenCount | None = Field(
        default=None,
        description="The most tokens to generate; by default as many as there is room for.",
    )
    max_tokens: TokenCount | None = Field(
        default=None, description="The older name of max_completion_tokens."
    )
    logprobs: bool = Field(
        default=False, description="Report the log-probability of each generated token."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] = Field(
        default=0,
        description="With logprobs: report so many of the most likely tokens at each place, too.",
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="Holds the answer to JSON, or to JSON that satisfies a schema."
    )
    metadata: Annotated[dict[Key, Value], Field(max_length=MAX_METADATA)] | None = Field(
        default=None,
        description="Up to 16 pairs of strings. Returned with the answer, and written to the log.",
    )
    store: Literal[False] = Field(default=False, description="Nothing is stored here.")

    def as_requests(self) -> list[TextRequest]:
        """The one request."""
        request = self.as_request(self._conversation(), "messages")
        return [
            replace(
                request,
                max_new_tokens=self.max_completion_tokens or self.max_tokens,
                top_logprobs=self.top_logprobs,
                grammar=self._grammar() or request.grammar,
            )
        ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise contradiction("max_tokens", "Give max_completion_tokens or max_tokens, not both")
        if self.top_logprobs and not self.logprobs:
            raise contradiction("top_logprobs", "Needs logprobs: true; set it, or leave this out")
        if self.response_format is not None and self.structured_outputs is not None:
            raise contradiction(
                "response_format", "Give response_format or structured_outputs, not both"
            )
        self._grammar()  # refuses a schema that is no schema
        return self

    def _conversation(self) -> Conversation:
        return tuple(message.as_message() for message in self.messages)

    def _grammar(self) -> GrammarSpec | None:
        match self.response_format:
            case JsonObjectFormat():
                return GrammarSpec(kind=GrammarKind.JSON_OBJECT, text="", origin="response_format")
            case JsonSchemaFormat(json_schema=named):
                try:
                    text = schema_text(named.json_schema)
                except PydanticCustomError as error:
                    raise contradiction("response_format", error.message()) from error
                return GrammarSpec(kind=GrammarKind.JSON, text=text, origin="response_format")
            case _:
                return None
