"""What an answer says and what it calls, read out of its text, whole or as it comes."""

import secrets
from dataclasses import dataclass

from app.generation.prepared_request import PreparedRequest
from app.text.codec import TextCodec
from app.text.tools.formats import CallFormat
from app.text.tools.reader import Called, CallReader
from app.text.tools.spec import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerParts:
    """A whole answer, taken apart."""

    said: str
    calls: tuple[ToolCall, ...]


def open_reader(prepared: PreparedRequest, codec: TextCodec) -> CallReader | None:
    """A reader for one sequence of a request; None where nothing may be called."""
    request = prepared.request
    if request.tools is None:
        return None
    can_say_first = not request.tools.must_call and request.grammar is None
    return CallReader(codec.call_format, can_say_first=can_say_first)


def take_apart(text: str, prepared: PreparedRequest, codec: TextCodec) -> AnswerParts:
    """What a finished text says and calls."""
    reader = open_reader(prepared, codec)
    if reader is None:
        return AnswerParts(said=text, calls=())
    said = ""
    names: list[str] = []
    arguments: list[str] = []
    for piece in reader.push(text) + reader.finish():
        if not isinstance(piece, Called):
            said += piece.text
            continue
        if piece.name is not None:
            names.append(piece.name)
            arguments.append("")
        arguments[piece.index] += piece.arguments
    calls = (
        ToolCall(id=draw_call_id(codec.call_format), name=name, arguments=given)
        for name, given in zip(names, arguments, strict=True)
    )
    return AnswerParts(said=said, calls=tuple(calls))


def draw_call_id(form: CallFormat) -> str:
    """An id for a call, unlike any other; fit to be sent back to the model's own template."""
    return secrets.token_hex(5)[:9] if form.has_short_ids else f"call_{secrets.token_hex(12)}"
