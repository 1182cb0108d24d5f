"""The body of `POST /v1/responses`, in its stateless form: all that the model reads is in it."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.generation_fields import (
    MAX_ALTERNATIVES,
    MAX_TEXT_CHARACTERS,
    Text,
    TokenCount,
    contradiction,
    string_or_list,
)
from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import schema_text
from app.openai.chat_bodies import JsonObjectFormat, TextFormat
from app.openai.fields import MAX_METADATA, Key, OpenAIFields, Value
from app.openai.response_items import MAX_ITEMS, InputItem, as_conversation
from app.openai.tool_bodies import MAX_TOOLS, FlatToolBody, FlatToolChoice, tool_use
from app.text.grammar.spec import GrammarKind, GrammarSpec
from app.text.request import Conversation, TextRequest
from app.text.tools.spec import ToolUse

LOGPROBS = "message.output_text.logprobs"


class FlatSchemaFormat(StrictModel):
    """JSON that satisfies a schema, always, strict or not."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    json_schema: dict[str, Any] = Field(alias="schema")
    description: Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)] | None = None
    strict: bool | None = None


class TextConfig(StrictModel):
    """What the text of an answer looks like."""

    format: Annotated[TextFormat | JsonObjectFormat | FlatSchemaFormat, Discriminator("type")] = (
        TextFormat(type="text")
    )


class ResponseBody(OpenAIFields):
    """What the model reads, and how it is to answer."""

    example: ClassVar[Mapping[str, object]] = MappingProxyType(
        {"input": "Say hello.", "max_output_tokens": 20}
    )

    input: Annotated[
        Annotated[Text, Tag("<string>")]
        | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS), Tag("<list>")],
        Discriminator(string_or_list),
    ] = Field(
        description="What the user says, or a conversation in items: messages, calls, results."
    )
    instructions: Text | None = Field(
        default=None, description="What the system says, before all that the input holds."
    )
    max_output_tokens: TokenCount | None = Field(
        default=None,
        description="The most tokens to generate; by default as many as there is room for.",
    )
    text: TextConfig = Field(
        default=TextConfig(), description="Holds the answer to JSON, or to a schema."
    )
    tools: Annotated[list[FlatToolBody], Field(max_length=MAX_TOOLS)] = Field(
        default=[],
        description="Functions that the model may call. Calls always parse, and their arguments "
        "satisfy the functions' schemas.",
    )
    tool_choice: FlatToolChoice | None = Field(
        default=None,
        description="`auto`: the model says something or calls; `none`: it is not told of tools; "
        "`required`: it calls; or the function that it calls, or those that it may call.",
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: at most one call in an answer."
    )
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=1)] = Field(
        default=[], description="What else the answer tells: log-probabilities."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] = Field(
        default=0,
        description="With log-probabilities: so many of the most likely tokens at each place, too.",
    )
    metadata: Annotated[dict[Key, Value], Field(max_length=MAX_METADATA)] | None = Field(
        default=None,
        description="Up to 16 pairs of strings. Returned with the answer, and written to the log.",
    )
    store: Literal[False] = Field(
        default=False, description="Nothing is stored here, also where this is left out."
    )
    background: Literal[False] = Field(
        default=False, description="Answers are waited for; POST /generate_async does not wait."
    )
    truncation: Literal["disabled"] = Field(
        default="disabled", description="A conversation that does not fit is refused."
    )

    _conversation: Conversation = PrivateAttr()
    _tools: ToolUse | None = PrivateAttr()

    @property
    def has_logprobs(self) -> bool:
        """Whether log-probabilities are told."""
        return LOGPROBS in self.include

    def as_requests(self) -> list[TextRequest]:
        """The one request."""
        request = self.as_request(self._conversation, "input")
        return [
            replace(
                request,
                max_new_tokens=self.max_output_tokens,
                top_logprobs=self.top_logprobs,
                grammar=self._grammar() or request.grammar,
                tools=self._tools,
            )
        ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self._strategy.num_results > 1:
            raise contradiction("n", "A response has one answer; leave it out, or use a chat")
        if self.stream_options is not None:
            raise contradiction(
                "stream_options", "These streams always end with usage; leave it out"
            )
        if self.top_logprobs and not self.has_logprobs:
            raise contradiction("top_logprobs", f"Needs include: [{LOGPROBS}]; add it")
        if self.has_logprobs and self.tools:
            raise contradiction(
                "include", "Log-probabilities of calls have no place here; use a chat, or no tools"
            )
        if self._grammar() is not None and self.structured_outputs is not None:
            raise contradiction("text", "Give text.format or structured_outputs, not both")
        self._conversation = as_conversation(self.instructions, self.input)
        functions = [
            tool.as_function(f"tools.{at}.parameters") for at, tool in enumerate(self.tools)
        ]
        self._tools = tool_use(functions, self.tool_choice, in_parallel=self.parallel_tool_calls)
        return self

    def _grammar(self) -> GrammarSpec | None:
        match self.text.format:
            case JsonObjectFormat():
                return GrammarSpec(kind=GrammarKind.JSON_OBJECT, text="", origin="text.format")
            case FlatSchemaFormat(json_schema=schema):
                try:
                    text = schema_text(schema)
                except PydanticCustomError as error:
                    raise contradiction("text.format.schema", error.message()) from error
                return GrammarSpec(kind=GrammarKind.JSON, text=text, origin="text.format.schema")
            case _:
                return None
