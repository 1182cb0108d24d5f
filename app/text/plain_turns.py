"""Tools in plain words, for models whose chat template knows none.

The functions and how to call them go into the system message, calls into what the assistant said,
results into what the user said. `app.text.chat_template` uses what of it a template lacks.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from app.text.request import Conversation, Message
from app.text.tools.formats import CallFormat
from app.text.tools.spec import Function


def instructions(functions: Sequence[Function], form: CallFormat) -> str:
    """What the model is told of the functions, and how to call them."""
    listed = "\n".join(json.dumps(each.as_tool()["function"]) for each in functions)
    example = form.write([("NAME", '{"ARGUMENT": VALUE}')])
    again = "" if form.separator is None else " Several functions may be called in one answer."
    return (
        "You can call functions. These are available, each described by a JSON object:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "Where a function helps, answer with a call in exactly this form, with arguments of its "
        f"parameters:\n{example}\n"
        f"You then get the result within <tool_response> tags.{again}"
    )


def with_instructions(conversation: Conversation, text: str, *, role: str) -> Conversation:
    """The conversation, whose first message of this role (a new one if need be) says `text` too."""
    first = conversation[0]
    if role == "system" and first.role != "system":
        return (Message(role="system", content=text), *conversation)
    at = next((n for n, turn in enumerate(conversation) if turn.role == role), 0)
    turn = conversation[at]
    parts = (turn.content, text) if role == "system" else (text, turn.content)
    said = replace(turn, content="\n\n".join(part for part in parts if part))
    return (*conversation[:at], said, *conversation[at + 1 :])


def with_plain_calls(conversation: Conversation, form: CallFormat) -> Conversation:
    """The conversation with calls and results as text; results next to each other are one turn."""
    turns: list[Message] = []
    role_before = None
    for turn in conversation:
        if turn.role == "tool":
            result = f"<tool_response>\n{turn.content}\n</tool_response>"
            if role_before == "tool":
                result = f"{turns.pop().content}\n{result}"
            turns.append(Message(role="user", content=result))
        elif turn.tool_calls:
            calls = form.write([(call.name, call.arguments) for call in turn.tool_calls])
            said = f"{turn.content}\n{calls}" if turn.content else calls
            turns.append(Message(role=turn.role, content=said))
        else:
            turns.append(turn)
        role_before = turn.role
    return tuple(turns)
