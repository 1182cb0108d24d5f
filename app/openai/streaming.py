"""Answers of OpenAI's API as streams: the frames of one or several generations.

`frames_of` reads them side by side and has a `ChunkWriter` write what comes; the two writers are
those of chats and of completions. Whatever can be refused has been refused before; what fails
later is told in the stream, which ends with `[DONE]` in any case.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from app.error_replies import describe
from app.errors import AppError
from app.generation.completion import Chunk, Completed
from app.generation.prepared_request import PreparedRequest
from app.generation.subscription import Subscription
from app.http.sse import KEEP_ALIVE
from app.http.watch import Watch
from app.openai.answers import Usage
from app.openai.calls import draw_call_id, open_reader
from app.openai.chat_bodies import ChatBody
from app.openai.completion_bodies import CompletionBody
from app.openai.errors import translate
from app.openai.logprobs import ChatLogprobWriter, CompletionLogprobWriter, scores_of
from app.openai.presentation import (
    Answered,
    Heading,
    chat_finish_reason,
    finish_reason,
    shown_sequences,
    usage_of,
)
from app.text.codec import TextCodec
from app.text.tools.reader import CallReader, Piece, Said
from decoding.base import FinishReason
from engine.errors import EngineError

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"


class ChunkWriter(Protocol):
    """Writes the frames of one request. `at` is the prompt that a generation answers."""

    def write(self, at: int, chunk: Chunk) -> bytes:
        """New tokens; no bytes where they brought no text and nothing is told of them."""

    def end(self, at: int, completed: Completed) -> bytes:
        """Why each of its sequences ended."""

    def usage(self, answers: Sequence[Answered]) -> bytes:
        """The chunk without choices, if it was asked for."""


async def frames_of(
    subscriptions: Sequence[Subscription],
    writer: ChunkWriter,
    *,
    keep_alive_seconds: float,
) -> AsyncGenerator[bytes, None]:
    """All frames: what is ready at a time in one piece of bytes."""

    def nudge() -> None:
        for subscription in subscriptions:
            subscription.nudge()

    silence = Watch(keep_alive_seconds, nudge)
    try:
        async with aclosing(_side_by_side(subscriptions)) as coming:
            async for at, chunks in coming:
                silence.restart()
                if chunks is None:
                    yield KEEP_ALIVE
                elif frames := b"".join(writer.write(at, chunk) for chunk in chunks):
                    yield frames
        answers = [
            Answered(prepared=each.prepared, completed=await each.completed())
            for each in subscriptions
        ]
        ends = [writer.end(at, answer.completed) for at, answer in enumerate(answers)]
        yield b"".join(ends) + writer.usage(answers)
    except Exception as error:  # the status is sent: a failure can only be told in the stream
        if not isinstance(error, AppError | EngineError):
            logger.exception("a stream failed unexpectedly")
        yield _frame(json.dumps(translate(describe(error)).as_json()))
    finally:
        silence.stop()
    yield DONE


async def _side_by_side(
    subscriptions: Sequence[Subscription],
) -> AsyncGenerator[tuple[int, Sequence[Chunk] | None], None]:
    """What comes of each, as it comes; None where one was nudged."""
    if len(subscriptions) == 1:  # spares a task a token
        while (chunks := await subscriptions[0].next_chunks()) != []:
            yield 0, chunks
        return
    reading = {asyncio.ensure_future(s.next_chunks()): at for at, s in enumerate(subscriptions)}
    try:
        while reading:
            done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=reading.__getitem__):
                at, chunks = reading.pop(task), task.result()
                if chunks != []:
                    yield at, chunks
                    reading[asyncio.ensure_future(subscriptions[at].next_chunks())] = at
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


class _Frames:
    """Frames that all begin alike."""

    def __init__(self, heading: Heading, kind: str, *, includes_usage: bool) -> None:
        fields = {
            "id": heading.id,
            "object": kind,
            "created": heading.created,
            "model": heading.model,
            "system_fingerprint": heading.system_fingerprint,
        }
        self._beginning = json.dumps(fields)[:-1] + (', "usage": null' if includes_usage else "")
        self._usage_beginning = json.dumps(fields)[:-1]
        self._includes_usage = includes_usage

    def choice(
        self, index: int, body: str, *, logprobs: str = "null", reason: str = "null"
    ) -> bytes:
        """A chunk with one choice; `body` is the member that holds its text."""
        return _frame(
            f'{self._beginning}, "choices": [{{"index": {index}, {body}, "logprobs": {logprobs}, '
            f'"finish_reason": {reason}}}]}}'
        )

    def usage(self, usage: Usage) -> bytes:
        """The chunk without choices, if it was asked for."""
        if not self._includes_usage:
            return b""
        return _frame(
            f'{self._usage_beginning}, "choices": [], "usage": {usage.model_dump_json()}}}'
        )


class ChatChunkWriter:
    """Writes a chat: who speaks, what it says and calls, why it ends."""

    def __init__(
        self, heading: Heading, body: ChatBody, prepared: PreparedRequest, codec: TextCodec
    ) -> None:
        self._frames = _Frames(heading, "chat.completion.chunk", includes_usage=body.includes_usage)
        self._logprobs = ChatLogprobWriter(codec) if body.logprobs else None
        self._prepared = prepared
        self._codec = codec
        self._readers: dict[int, CallReader | None] = {}  # by choice, once it has begun

    def write(self, at: int, chunk: Chunk) -> bytes:  # noqa: ARG002  a chat has one prompt
        """New text and calls; before a choice's first, its role."""
        if not chunk.text and self._logprobs is None:
            return b""
        role = self._role(chunk.index)
        reader = self._readers[chunk.index]
        pieces = [Said(text=chunk.text)] if reader is None else reader.push(chunk.text)
        if self._logprobs is not None and not pieces:
            pieces = [Said(text="")]
        logprobs = [self._logprobs_of(chunk)] + ["null"] * len(pieces)
        return role + b"".join(
            self._frames.choice(chunk.index, self._delta(piece), logprobs=given)
            for piece, given in zip(pieces, logprobs, strict=False)
        )

    def end(self, at: int, completed: Completed) -> bytes:  # noqa: ARG002
        """Why each choice ends."""
        return b"".join(
            self._role(index) + self._end(index, sequence.finish_reason)
            for index, sequence in enumerate(completed.sequences)
        )

    def _end(self, index: int, reason: FinishReason) -> bytes:
        reader = self._readers[index]
        held = [] if reader is None else reader.finish()
        rest = b"".join(self._frames.choice(index, self._delta(piece)) for piece in held)
        has_calls = reader is not None and reader.num_calls > 0
        told = json.dumps(chat_finish_reason(reason, has_calls=has_calls))
        return rest + self._frames.choice(index, '"delta": {}', reason=told)

    def _delta(self, piece: Piece) -> str:
        if isinstance(piece, Said):
            return f'"delta": {{"content": {json.dumps(piece.text)}}}'
        call: dict[str, object] = {"index": piece.index}
        function = {"arguments": piece.arguments}
        if piece.name is not None:
            call |= {"id": draw_call_id(self._codec.call_format), "type": "function"}
            function = {"name": piece.name} | function
        call["function"] = function
        return f'"delta": {{"tool_calls": [{json.dumps(call)}]}}'

    def usage(self, answers: Sequence[Answered]) -> bytes:
        """The chunk without choices, if it was asked for."""
        return self._frames.usage(usage_of(answers))

    def _role(self, index: int) -> bytes:
        if index in self._readers:
            return b""
        self._readers[index] = open_reader(self._prepared, self._codec)
        return self._frames.choice(index, '"delta": {"role": "assistant", "content": ""}')

    def _logprobs_of(self, chunk: Chunk) -> str:
        if self._logprobs is None:
            return "null"
        scores = scores_of(chunk.token_ids, chunk.logprobs, chunk.alternatives)
        return self._logprobs.write(scores).model_dump_json()


class CompletionChunkWriter:
    """Writes completions: the text of each choice, after its prompt if that is echoed."""

    def __init__(
        self,
        heading: Heading,
        body: CompletionBody,
        subscriptions: Sequence[Subscription],
        codec: TextCodec,
    ) -> None:
        self._frames = _Frames(heading, "text_completion", includes_usage=body.includes_usage)
        self._body = body
        self._prompts = [each.prepared.prompt_text for each in subscriptions]
        self._num_each = subscriptions[0].prepared.request.strategy.num_results
        self._codec = codec
        self._begun: set[int] = set()  # choices whose prompt is echoed
        self._logprobs: dict[int, CompletionLogprobWriter] = {}  # by choice

    def write(self, at: int, chunk: Chunk) -> bytes:
        """New text; before a choice's first, the prompt if it is echoed."""
        has_logprobs = self._body.logprobs is not None
        if self._body.max_tokens == 0 or not (chunk.text or has_logprobs):
            return b""
        index = at * self._num_each + chunk.index
        text = f'"text": {json.dumps(chunk.text)}'
        logprobs = self._logprobs_of(index, chunk) if has_logprobs else "null"
        return self._echo(at, index) + self._frames.choice(index, text, logprobs=logprobs)

    def end(self, at: int, completed: Completed) -> bytes:
        """Why each choice ends."""
        frames = b""
        for place, sequence in enumerate(shown_sequences(self._body, completed)):
            index = at * self._num_each + place
            reason = json.dumps(finish_reason(sequence.finish_reason))
            frames += self._echo(at, index)
            frames += self._frames.choice(index, '"text": ""', reason=reason)
        return frames

    def usage(self, answers: Sequence[Answered]) -> bytes:
        """The chunk without choices, if it was asked for."""
        return self._frames.usage(usage_of(answers, has_new_tokens=self._body.max_tokens > 0))

    def _echo(self, at: int, index: int) -> bytes:
        if index in self._begun or not self._body.echo:
            return b""
        self._begun.add(index)
        return self._frames.choice(index, f'"text": {json.dumps(self._prompts[at])}')

    def _logprobs_of(self, index: int, chunk: Chunk) -> str:
        if index not in self._logprobs:
            self._logprobs[index] = CompletionLogprobWriter(self._codec)
        scores = scores_of(chunk.token_ids, chunk.logprobs, chunk.alternatives)
        return self._logprobs[index].write(scores).model_dump_json()


def _frame(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
