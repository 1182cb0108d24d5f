"""Responses as streams: the events of OpenAI's API, numbered, in their order.

An item is announced, grows, and is closed before the next begins; the last event holds the whole
response. Whatever can be refused has been refused before; what fails later is told by
`response.failed`.
"""

import json
import logging
from collections.abc import AsyncGenerator

from pydantic import BaseModel

from app.error_replies import describe
from app.errors import AppError
from app.generation.completion import Chunk
from app.generation.subscription import Subscription
from app.http.sse import KEEP_ALIVE
from app.http.watch import Watch
from app.openai.answers import TokenLogprob
from app.openai.calls import draw_call_id, open_reader
from app.openai.errors import translate_for_responses
from app.openai.logprobs import ChatLogprobWriter, scores_of
from app.openai.presentation import Answered
from app.openai.response_answers import CallAnswer, ItemStatus, MessageAnswer, OutputItem, TextPart
from app.openai.response_presentation import (
    ResponsePresenter,
    call_item,
    draw_id,
    item_status,
    message_item,
)
from app.text.tools.reader import Piece, Said
from app.text.tools.spec import ToolCall
from engine.errors import EngineError

logger = logging.getLogger(__name__)


async def response_frames(
    subscription: Subscription,
    presenter: ResponsePresenter,
    *,
    keep_alive_seconds: float,
) -> AsyncGenerator[bytes, None]:
    """All events of a response: what is ready at a time in one piece of bytes."""
    writer = _EventWriter(subscription, presenter)
    silence = Watch(keep_alive_seconds, subscription.nudge)
    try:
        yield writer.begin()
        while (chunks := await subscription.next_chunks()) != []:
            silence.restart()
            if chunks is None:
                yield KEEP_ALIVE
            elif frames := b"".join(map(writer.write, chunks)):
                yield frames
        completed = await subscription.completed()
        yield writer.end(Answered(prepared=subscription.prepared, completed=completed))
    except Exception as error:  # the status is sent: a failure can only be told in the stream
        if not isinstance(error, AppError | EngineError):
            logger.exception("a stream failed unexpectedly")
        yield writer.fail(error)
    finally:
        silence.stop()


class _EventWriter:
    """Writes the events of one response. Its stream is the only user."""

    def __init__(self, subscription: Subscription, presenter: ResponsePresenter) -> None:
        self._presenter = presenter
        self._reader = open_reader(subscription.prepared, presenter.codec)
        self._num_events = 0
        self._closed: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._logprobs: list[TokenLogprob] = []  # of the open message, told and not yet told
        self._num_told = 0

    def begin(self) -> bytes:
        """The response is there, and has nothing yet."""
        response = self._presenter.begun()
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def write(self, chunk: Chunk) -> bytes:
        """What new tokens say and call."""
        if self._presenter.body.has_logprobs:
            scores = scores_of(chunk.token_ids, chunk.logprobs, chunk.alternatives)
            self._logprobs += ChatLogprobWriter(self._presenter.codec).write(scores).content
        if self._reader is None:
            return self._piece(Said(text=chunk.text)) if chunk.text else b""
        return b"".join(map(self._piece, self._reader.push(chunk.text)))

    def end(self, answer: Answered) -> bytes:
        """The last item is closed, and the response is whole."""
        held = [] if self._reader is None else self._reader.finish()
        frames = b"".join(map(self._piece, held))
        if self._open is None:
            frames += self._open_message()
        frames += self._close(item_status(answer.completed.sequences[0].finish_reason))
        response = self._presenter.ended(answer, self._closed)
        return frames + self._event(f"response.{response.status}", response=response)

    def fail(self, error: Exception) -> bytes:
        """The response ends without an answer."""
        problem = translate_for_responses(describe(error)).problems[0]
        begun = [] if self._open is None else [self._open]
        response = self._presenter.failed(problem.code, problem.message, [*self._closed, *begun])
        return self._event("response.failed", response=response)

    def _piece(self, piece: Piece) -> bytes:
        if isinstance(piece, Said):
            opening = b"" if isinstance(self._open, MessageAnswer) else self._open_message()
            return opening + self._say(piece.text)
        opening = b"" if piece.name is None else self._open_call(piece.name)
        return opening + (self._go_on(piece.arguments) if piece.arguments else b"")

    def _open_message(self) -> bytes:
        closing = self._close("completed")
        item = message_item(draw_id("msg"), "", "in_progress", [])
        self._open = item
        added = self._event(
            "response.output_item.added",
            output_index=len(self._closed),
            item=item.model_copy(update={"content": []}),
        )
        part = self._at("response.content_part.added", item, content_index=0, part=item.content[0])
        return closing + added + part

    def _open_call(self, name: str) -> bytes:
        closing = self._close("completed")
        call_id = draw_call_id(self._presenter.codec.call_format)
        call = ToolCall(id=call_id, name=name, arguments="")
        self._open = call_item(draw_id("fc"), call, "in_progress")
        return closing + self._event(
            "response.output_item.added", output_index=len(self._closed), item=self._open
        )

    def _say(self, text: str) -> bytes:
        item = self._open
        assert isinstance(item, MessageAnswer), "a message is open"
        said = item.content[0].text + text
        self._open = message_item(item.id, said, "in_progress", [])
        told, self._num_told = self._logprobs[self._num_told :], len(self._logprobs)
        return self._at(
            "response.output_text.delta", item, content_index=0, delta=text, logprobs=told
        )

    def _go_on(self, arguments: str) -> bytes:
        item = self._open
        assert isinstance(item, CallAnswer), "a call is open"
        self._open = item.model_copy(update={"arguments": item.arguments + arguments})
        return self._at("response.function_call_arguments.delta", item, delta=arguments)

    def _close(self, status: ItemStatus) -> bytes:
        item = self._open
        if item is None:
            return b""
        if isinstance(item, MessageAnswer):
            part = TextPart(text=item.content[0].text, logprobs=self._logprobs)
            frames = self._at(
                "response.output_text.done",
                item,
                content_index=0,
                text=part.text,
                logprobs=part.logprobs,
            ) + self._at("response.content_part.done", item, content_index=0, part=part)
            closed: OutputItem = item.model_copy(update={"status": status, "content": [part]})
        else:
            frames = self._at(
                "response.function_call_arguments.done",
                item,
                name=item.name,
                arguments=item.arguments,
            )
            closed = item.model_copy(update={"status": status})
        frames += self._event(
            "response.output_item.done", output_index=len(self._closed), item=closed
        )
        self._closed.append(closed)
        self._open = None
        return frames

    def _at(self, kind: str, item: OutputItem, **fields: object) -> bytes:
        return self._event(kind, item_id=item.id, output_index=len(self._closed), **fields)

    def _event(self, kind: str, **fields: object) -> bytes:
        data = {"type": kind, "sequence_number": self._num_events} | fields
        self._num_events += 1
        return f"event: {kind}\ndata: {json.dumps(data, default=_plain)}\n\n".encode()


def _plain(value: object) -> object:
    assert isinstance(value, BaseModel), "events hold models and plain values"
    return value.model_dump(mode="json")
