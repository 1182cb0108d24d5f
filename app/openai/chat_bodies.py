"""The body of `POST /v1/chat/completions`."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.generation_fields import (
    MAX_ALTERNATIVES,
    MAX_TEXT_CHARACTERS,
    TokenCount,
    contradiction,
)
from app.bodies.request_fields import MAX_MESSAGES
from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import schema_text
from app.openai.chat_messages import ChatMessage, check_calls
from app.openai.fields import MAX_METADATA, Key, OpenAIFields, Value
from app.openai.tool_bodies import MAX_TOOLS, ToolBody, ToolChoice, tool_use
from app.text.grammar.spec import GrammarKind, GrammarSpec
from app.text.request import Conversation, TextRequest
from app.text.tools.spec import ToolUse


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
    tools: Annotated[list[ToolBody], Field(max_length=MAX_TOOLS)] = Field(
        default=[],
        description="Functions that the model may call. Calls always parse, and their arguments "
        "satisfy the functions' schemas.",
    )
    tool_choice: ToolChoice | None = Field(
        default=None,
        description="`auto`: the model says something or calls; `none`: it is not told of tools; "
        "`required`: it calls; or the function that it calls, or those that it may call.",
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: at most one call in an answer."
    )
    metadata: Annotated[dict[Key, Value], Field(max_length=MAX_METADATA)] | None = Field(
        default=None,
        description="Up to 16 pairs of strings. Returned with the answer, and written to the log.",
    )
    store: Literal[False] = Field(default=False, description="Nothing is stored here.")

    _tools: ToolUse | None = PrivateAttr()

    def as_requests(self) -> list[TextRequest]:
        """The one request."""
        request = self.as_request(self._conversation(), "messages")
        return [
            replace(
                request,
                max_new_tokens=self.max_completion_tokens or self.max_tokens,
                top_logprobs=self.top_logprobs,
                grammar=self._grammar() or request.grammar,
                tools=self._tools,
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
        check_calls(self._conversation())
        functions = [
            tool.function.as_function(f"tools.{at}.function.parameters")
            for at, tool in enumerate(self.tools)
        ]
        self._tools = tool_use(functions, self.tool_choice, in_parallel=self.parallel_tool_calls)
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
