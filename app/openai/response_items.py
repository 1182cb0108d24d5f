"""The items that a response's `input` is made of, and the conversation that they are.

The items of an answer can be sent back as they came: what tells them apart from new ones (`id`,
`status`) is taken and changes nothing, for nothing is stored here that it could refer to.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from app.bodies.generation_fields import Text, contradiction, string_or_list
from app.bodies.strict_model import StrictModel
from app.openai.chat_messages import MAX_PARTS
from app.openai.tool_bodies import Arguments, CallId, FunctionName, check_arguments
from app.text.request import Conversation, Message
from app.text.tools.spec import ToolCall

MAX_ITEMS = 1024

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(StrictModel):
    """A piece of what is said to the model. Models here read text only."""

    type: Literal["input_text"]
    text: Text


class OutputText(StrictModel):
    """A piece of what the model said."""

    type: Literal["output_text"]
    text: Text
    annotations: Annotated[list[None], Field(max_length=0)] = Field(
        default=[], description="There are none here."
    )
    logprobs: list[object] | None = Field(
        default=None, description="As an answer had them; models read the text."
    )


InputParts = Annotated[list[InputText], Field(min_length=1, max_length=MAX_PARTS)]
AnyParts = Annotated[
    list[Annotated[InputText | OutputText, Discriminator("type")]],
    Field(min_length=1, max_length=MAX_PARTS),
]


class _SentBack(StrictModel):
    """What an item has that an answer held."""

    id: CallId | None = Field(default=None, description="As an answer had it; changes nothing.")
    status: Status | None = Field(default=None, description="As an answer had it.")


class MessageItem(_SentBack):
    """Something that is said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[
        Annotated[Text, Tag("<string>")] | Annotated[AnyParts, Tag("<list>")],
        Discriminator(string_or_list),
    ]

    def as_message(self) -> Message:
        """The same as templates take it; parts are joined."""
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content=_joined(self.content))


class CallItem(_SentBack):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: Arguments


class ResultItem(_SentBack):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Annotated[
        Annotated[Text, Tag("<string>")] | Annotated[InputParts, Tag("<list>")],
        Discriminator(string_or_list),
    ]


def _kind_of_item(value: object) -> str:
    if isinstance(value, dict):
        return f"<{value.get('type', 'message')}>"
    return f"<{getattr(value, 'type', 'message')}>"


InputItem = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[CallItem, Tag("<function_call>")]
    | Annotated[ResultItem, Tag("<function_call_output>")],
    Discriminator(_kind_of_item),
]


def as_conversation(instructions: str | None, given: str | Sequence[InputItem]) -> Conversation:
    """The turns that the items are.

    Calls next to each other are one turn, and so are instructions and what the system says next.

    Raises:
        PydanticCustomError: a result of no call, or a call that cannot be read; names the item.
    """
    turns: list[Message] = []
    if instructions is not None:
        turns.append(Message(role="system", content=instructions))
    if isinstance(given, str):
        return (*turns, Message(role="user", content=given))
    made: set[str] = set()
    for at, item in enumerate(given):
        if isinstance(item, CallItem):
            check_arguments(item.arguments, f"input.{at}.arguments")
            made.add(item.call_id)
        elif isinstance(item, ResultItem) and item.call_id not in made:
            raise contradiction(
                f"input.{at}.call_id", "No item before it makes this call; add that one"
            )
        _add(turns, item)
    return tuple(turns)


def _add(turns: list[Message], item: MessageItem | CallItem | ResultItem) -> None:
    last = turns[-1] if turns else None
    match item:
        case CallItem():
            call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
            before: tuple[ToolCall, ...] = ()
            said = ""
            if last is not None and last.role == "assistant":
                said, before = last.content, last.tool_calls
                turns.pop()
            turns.append(Message(role="assistant", content=said, tool_calls=(*before, call)))
        case ResultItem():
            result = _joined(item.output)
            turns.append(Message(role="tool", content=result, tool_call_id=item.call_id))
        case MessageItem():
            message = item.as_message()
            if last is not None and last.role == message.role == "system":
                turns.pop()
                message = Message(role="system", content=f"{last.content}\n\n{message.content}")
            turns.append(message)


def _joined(content: str | Sequence[InputText | OutputText]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)
