"""Turns of a chat as OpenAI's API writes them, calls of functions and their results included."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from app.bodies.generation_fields import Text, contradiction, string_or_list
from app.bodies.strict_model import StrictModel
from app.openai.tool_bodies import MAX_TOOLS, Arguments, CallId, FunctionName, check_arguments
from app.text.request import Conversation, Message
from app.text.tools.spec import ToolCall

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


class CalledFunction(StrictModel):
    """Which function was called, and with what."""

    name: FunctionName
    arguments: Arguments = Field(description="A JSON object, as a string.")


class MessageCall(StrictModel):
    """A call that the assistant made."""

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(StrictModel):
    """One turn of a conversation."""

    role: Literal["developer", "system", "user", "assistant", "tool"] = Field(
        description="Who speaks. Chat templates know no developer: it speaks as the system. "
        "`tool`: the result of a call."
    )
    content: Content | None = Field(
        default=None,
        description="What they say, as a string or in parts of text; only a message with "
        "tool_calls may have none.",
    )
    name: Annotated[str, Field(min_length=1, max_length=MAX_PARTICIPANT_CHARACTERS)] | None = Field(
        default=None,
        description="Which of those in this role speaks; for models whose template shows it.",
    )
    tool_calls: Annotated[list[MessageCall], Field(min_length=1, max_length=MAX_TOOLS)] | None = (
        Field(default=None, description="What the assistant called.")
    )
    tool_call_id: CallId | None = Field(
        default=None, description="Of role `tool`: the call that this is the result of."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, message: object) -> object:
        """Answers that are sent back hold nulls where they have nothing to say."""
        if not isinstance(message, dict):
            return message
        return {name: value for name, value in message.items() if value is not None}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tool_calls is not None and self.role != "assistant":
            raise contradiction("messages", "Only the assistant makes tool_calls; leave them out")
        if self.content is None and self.tool_calls is None:
            raise contradiction("messages", "A message without tool_calls needs content; add it")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise contradiction("messages", "tool_call_id is for role tool, which needs it")
        return self

    def as_message(self) -> Message:
        """The same as templates take it; parts are joined."""
        content = self.content or ""
        return Message(
            role="system" if self.role == "developer" else self.role,
            content=content if isinstance(content, str) else "".join(part.text for part in content),
            name=self.name,
            tool_calls=tuple(
                ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                for call in self.tool_calls or ()
            ),
            tool_call_id=self.tool_call_id,
        )


def check_calls(conversation: Conversation) -> None:
    """Refuse results of calls that nobody made, and arguments that are no object.

    Raises:
        PydanticCustomError: naming the message.
    """
    made: set[str] = set()
    for at, turn in enumerate(conversation):
        for number, call in enumerate(turn.tool_calls):
            check_arguments(call.arguments, f"messages.{at}.tool_calls.{number}.function.arguments")
            made.add(call.id)
        if turn.tool_call_id is not None and turn.tool_call_id not in made:
            raise contradiction(
                f"messages.{at}.tool_call_id", "No message before it makes this call; add that one"
            )
