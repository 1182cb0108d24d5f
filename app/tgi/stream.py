"""Event streams as TGI writes them: a token an event, the last one with the whole text.

Which token is the last, the engine tells in the same step as the token itself; so no token waits
for the next one.
"""

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from itertools import zip_longest

from app.error_replies import describe
from app.errors import AppError
from app.generation.completion import Chunk, Completed
from app.generation.subscription import Subscription
from app.http.sse import KEEP_ALIVE
from app.http.watch import Watch
from app.text.codec import TextCodec
from app.tgi.errors import translate
from app.tgi.presentation import full_text, stream_details
from app.tgi.responses import TgiStreamResponse, Token
from app.tgi.token_text import TokenWriter, likely_tokens
from engine.errors import EngineError

logger = logging.getLogger(__name__)


async def frames_of(
    subscription: Subscription,
    codec: TextCodec,
    *,
    has_details: bool,
    keep_alive_seconds: float,
) -> AsyncGenerator[bytes, None]:
    """The frames of a generation of one text: what is ready at a time in one piece of bytes."""
    writer = _EventWriter(subscription, codec, has_details=has_details)
    silence = Watch(keep_alive_seconds, subscription.nudge)
    try:
        while (chunks := await subscription.next_chunks()) != []:
            silence.restart()
            if chunks is None:
                yield KEEP_ALIVE
                continue
            if subscription.has_ended:  # so these are the last chunks
                yield writer.end(chunks, await subscription.completed())
                return
            yield writer.write(chunks)
        yield writer.end((), await subscription.completed())
    except Exception as error:  # the status is sent: a failure can only be told in the stream
        if not isinstance(error, AppError | EngineError):
            logger.exception("a stream failed unexpectedly")
        yield _frame(json.dumps(translate(describe(error)).as_json()))
    finally:
        silence.stop()


class _EventWriter:
    """Writes the events of one stream, in order."""

    def __init__(self, subscription: Subscription, codec: TextCodec, *, has_details: bool) -> None:
        self._prepared = subscription.prepared
        self._has_top_tokens = self._prepared.request.top_logprobs > 0
        self._codec = codec
        self._has_details = has_details
        self._tokens = TokenWriter(codec, self._prepared)
        self._num_written = 0

    def write(self, chunks: Sequence[Chunk]) -> bytes:
        """Tokens that others follow."""
        return b"".join(_frame(event.model_dump_json()) for event in self._events(chunks))

    def end(self, chunks: Sequence[Chunk], completed: Completed) -> bytes:
        """The last tokens, of which the last one tells the whole text."""
        events = self._events(chunks, are_last=True) or [self._empty(completed)]
        end = {
            "generated_text": full_text(self._prepared, completed.sequences[0]),
            "details": stream_details(self._prepared, completed) if self._has_details else None,
        }
        events[-1] = events[-1].model_copy(update=end)
        return b"".join(_frame(event.model_dump_json()) for event in events)

    def _events(
        self, chunks: Sequence[Chunk], *, are_last: bool = False
    ) -> list[TgiStreamResponse]:
        places = [
            place
            for chunk in chunks
            for place in zip_longest(chunk.token_ids, chunk.logprobs, chunk.alternatives)
        ]
        return [
            self._event(
                self._tokens.write(token_id, logprob, is_last=are_last and number == len(places)),
                likely_tokens(alternatives or (), self._codec) if self._has_top_tokens else None,
            )
            for number, (token_id, logprob, alternatives) in enumerate(places, start=1)
        ]

    def _empty(self, completed: Completed) -> TgiStreamResponse:
        """Of a text that ended without another token: its last one again, without its text."""
        sequence = completed.sequences[0]
        last_id = (*self._prepared.prompt_ids, *sequence.token_ids)[-1]
        rest = self._tokens.rest()
        return self._event(
            Token(id=last_id, text=rest, logprob=0.0, special=not rest),
            [] if self._has_top_tokens else None,
        )

    def _event(self, token: Token, top_tokens: list[Token] | None) -> TgiStreamResponse:
        self._num_written += 1
        return TgiStreamResponse(index=self._num_written, token=token, top_tokens=top_tokens)


def _frame(data: str) -> bytes:
    return f"data:{data}\n\n".encode()
