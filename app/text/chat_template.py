"""A model's chat template: the prompt that it makes of a conversation, tools included.

`TextCodec` renders through it. What a template knows of tools is found out by having it render a
short conversation, for its text does not tell: some templates show the functions, the calls and
the results, some only a part, many nothing. What is missing is told in plain words
(`plain_turns.py`).
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from jinja2 import TemplateError

from app.errors import InvalidRequest
from app.text.plain_turns import instructions, with_instructions, with_plain_calls
from app.text.request import Conversation, Message
from app.text.tools.formats import CallFormat, format_of
from app.text.tools.spec import Function, ToolCall

if TYPE_CHECKING:  # importing transformers takes seconds, and only its types are needed here
    from transformers import PreTrainedTokenizerBase

SHORT_ID = re.compile("[A-Za-z0-9]{9}")
REFUSALS = (TemplateError, ValueError, TypeError)  # what templates raise of what they cannot take

_ASKS = Message(role="user", content="Which?")
_FUNCTION = Function(name="probed_function", field="", description="A probe.")
_CALL = ToolCall(id="probe0001", name="probed_function", arguments='{"probed": "argument"}')
_CALLS = (_ASKS, Message(role="assistant", content="", tool_calls=(_CALL,)))
_RESULT = Message(role="tool", content="probed result", tool_call_id=_CALL.id)


class ChatTemplate:
    """Renders conversations with a tokenizer's template. Any thread may use it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @property
    def is_there(self) -> bool:
        """Whether there is a template at all."""
        return self._tokenizer.chat_template is not None

    @cached_property
    def call_format(self) -> CallFormat:
        """How the model writes calls."""
        templates = self._tokenizer.chat_template
        if isinstance(templates, dict):  # several by name, one of them for tools
            templates = "\n".join(map(str, templates.values()))
        return format_of(templates or "")

    def render(self, conversation: Conversation, functions: Sequence[Function] = ()) -> str:
        """The prompt of a conversation in which these functions may be called.

        As in transformers' text-generation pipeline, a last message of the assistant is the
        beginning of the answer; otherwise the template opens a new one.

        Raises:
            InvalidRequest: no template, or the template refuses the conversation.
        """
        if not self.is_there:
            raise InvalidRequest(
                "This model has no chat template; send the prompt as `text` instead.",
                param="messages",
                code="no_chat_template",
            )
        last = conversation[-1]
        if last.tool_calls:
            raise InvalidRequest(
                "The last message calls functions; add the results, as messages of role `tool`.",
                param="messages",
            )
        try:
            adapted = self._adapted(conversation, functions)
            rendered = self._render(adapted, functions)
        except REFUSALS as error:
            raise InvalidRequest(
                "The model's chat template refuses these messages; change their roles or order, or "
                f"send the prompt as `text`. It says: {error}",
                param="messages",
            ) from error
        nameless = tuple(replace(turn, name=None) for turn in adapted)
        if nameless != adapted and self._probe(nameless, functions) == rendered:
            raise InvalidRequest(
                "The model's chat template does not show who of a role speaks; leave name out, or "
                "put it into the content.",
                param="messages",
                code="unsupported",
            )
        return rendered

    def _adapted(self, conversation: Conversation, functions: Sequence[Function]) -> Conversation:
        """The conversation, with what the template does not know of tools in plain words."""
        has_calls = any(turn.tool_calls or turn.role == "tool" for turn in conversation)
        if has_calls and not self._shows_calls:
            conversation = with_plain_calls(conversation, self.call_format)
        if functions and not self._shows_functions:
            text = instructions(functions, self.call_format)
            role = "system" if self._takes_system else "user"
            conversation = with_instructions(conversation, text, role=role)
        return conversation

    def _render(self, conversation: Conversation, functions: Sequence[Function] = ()) -> str:
        is_prefilled = conversation[-1].role == "assistant" and not conversation[-1].tool_calls
        rendered = self._tokenizer.apply_chat_template(
            self._turns(conversation, as_text=self._takes_argument_text),
            tools=[each.as_tool() for each in functions] or None,
            tokenize=False,
            add_generation_prompt=not is_prefilled,
            continue_final_message=is_prefilled,
        )
        return cast("str", rendered)

    def _turns(self, conversation: Conversation, *, as_text: bool) -> list[dict[str, Any]]:
        names = {call.id: call.name for turn in conversation for call in turn.tool_calls}
        return [self._turn(turn, names, as_text=as_text) for turn in conversation]

    def _turn(self, turn: Message, names: dict[str, str], *, as_text: bool) -> dict[str, Any]:
        shown: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.name is not None:
            shown["name"] = turn.name
        if turn.tool_calls:
            shown["content"] = turn.content or None  # templates tell nothing from an empty text
            shown["tool_calls"] = [self._call(call, as_text=as_text) for call in turn.tool_calls]
        if turn.tool_call_id is not None:
            shown["tool_call_id"] = self._id(turn.tool_call_id)
            shown["name"] = names.get(turn.tool_call_id, "")
        return shown

    def _call(self, call: ToolCall, *, as_text: bool) -> dict[str, Any]:
        arguments = call.arguments if as_text else json.loads(call.arguments)
        function = {"name": call.name, "arguments": arguments}
        return {"type": "function", "id": self._id(call.id), "function": function}

    def _id(self, given: str) -> str:
        """The id as the template takes it; another service may have made it."""
        if not self.call_format.has_short_ids or SHORT_ID.fullmatch(given):
            return given
        return hashlib.sha256(given.encode()).hexdigest()[:9]

    @cached_property
    def _shows_functions(self) -> bool:
        return _FUNCTION.name in self._probe((_ASKS,), (_FUNCTION,))

    @cached_property
    def _shows_calls(self) -> bool:
        rendered = self._probe((*_CALLS, _RESULT))
        return all(shown in rendered for shown in (_CALL.name, "probed", _RESULT.content))

    @cached_property
    def _takes_system(self) -> bool:
        return "Be brief." in self._probe((Message(role="system", content="Be brief."), _ASKS))

    @cached_property
    def _takes_argument_text(self) -> bool:
        """Whether calls' arguments are to be JSON and not objects, which most templates expect."""
        turns = self._turns((*_CALLS, _RESULT), as_text=False)
        try:
            self._tokenizer.apply_chat_template(turns, tokenize=False)
        except REFUSALS:
            return True
        return False

    def _probe(self, conversation: Conversation, functions: Sequence[Function] = ()) -> str:
        try:
            return self._render(conversation, functions)
        except REFUSALS:
            return ""
