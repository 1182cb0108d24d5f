"""Server-sent events written as bytes: the frames of a generation, and the response sending them.

The framework's own event stream costs ten times as much an event, which matters at thousands of
tokens a second. A stream is `token` events, then one `done` or `error`; comments fill silences,
so that proxies do not take the connection for dead.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.error_replies import describe
from app.errors import AppError, ClientDisconnected
from app.generation.completion import Chunk
from app.generation.generator import TextGenerator
from app.generation.presentation import Presenter
from app.generation.subscription import Subscription
from app.http.disconnect import run_until_disconnect
from app.http.watch import Watch
from app.text.request import TextRequest
from engine.errors import EngineError

KEEP_ALIVE = b": keep-alive\n\n"
WRITE_TIMEOUT_SECONDS = 60.0  # a client that reads nothing for so long is given up
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

logger = logging.getLogger(__name__)


async def open_stream(
    generator: TextGenerator, request: TextRequest, *, keep_alive_seconds: float
) -> Subscription:
    """Start a request whose answer is streamed, and wait for its first token.

    What fails before that, waiting in the queue included, is raised, so that it gets a status of
    its own. But no longer than until the first comment would be due: then the stream begins with
    nothing in it, since proxies cut connections that stay silent, and tells of failures itself.

    Raises:
        AppError, EngineError: what the request failed with.
    """
    subscription = await generator.start(request)
    with ExitStack() as unwinding:
        unwinding.callback(subscription.close)
        await subscription.begun(keep_alive_seconds)
        unwinding.pop_all()
    return subscription


async def frames_of(
    subscription: Subscription,
    presenter: Presenter,
    *,
    keep_alive_seconds: float,
) -> AsyncGenerator[bytes, None]:
    """The frames of a generation: all tokens that are ready at a time in one piece of bytes."""
    silence = Watch(keep_alive_seconds, subscription.nudge)
    try:
        while (chunks := await subscription.next_chunks()) != []:
            silence.restart()
            yield KEEP_ALIVE if chunks is None else b"".join(map(_token_frame, chunks))
        response = presenter.present(subscription, await subscription.completed())
        yield _frame("done", response.model_dump_json())
    except Exception as error:  # the status is sent: a failure can only be told in the stream
        if not isinstance(error, AppError | EngineError):
            logger.exception("a stream failed unexpectedly")
        yield _frame("error", json.dumps(describe(error).as_json()))
    finally:
        silence.stop()


class EventStreamResponse(StreamingResponse):
    """Sends frames until they end or the client goes; then calls `close`, whatever happened."""

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        close: Callable[[], None],
        headers: Mapping[str, str],
        write_timeout_seconds: float = WRITE_TIMEOUT_SECONDS,
    ) -> None:
        super().__init__(
            frames, headers=STREAM_HEADERS | dict(headers), media_type="text/event-stream"
        )
        self._frames = frames
        self._close = close
        self._write_timeout_seconds = write_timeout_seconds

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one response. Watches for the disconnect itself: not every host tells of it."""
        timed = _TimedSend(send, self._write_timeout_seconds)
        try:
            await run_until_disconnect(receive, self.stream_response(timed))
        except ClientDisconnected:
            return
        except TimeoutError:
            logger.warning("a client stopped reading its stream and was given up")
        finally:
            timed.close()
            self._close()
            await self._frames.aclose()


class _TimedSend:
    """Sends messages one after the other; one that is not taken in time is a `TimeoutError`."""

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._watch = Watch(seconds, self._give_up)
        self._sender: asyncio.Task[None] | None = None  # while a message is being sent
        self._has_given_up = False

    async def __call__(self, message: Message) -> None:
        self._sender = asyncio.current_task()
        self._watch.restart()
        try:
            await self._send(message)
        except asyncio.CancelledError:
            if self._has_given_up:
                raise TimeoutError from None
            raise
        finally:
            self._sender = None

    def close(self) -> None:
        """Watch no more."""
        self._watch.stop()

    def _give_up(self) -> None:
        if self._sender is not None:
            self._has_given_up = True
            self._sender.cancel()


def _token_frame(chunk: Chunk) -> bytes:
    ids = ",".join(map(str, chunk.token_ids))
    data = f'{{"index":{chunk.index},"text":{json.dumps(chunk.text)},"token_ids":[{ids}]}}'
    return _frame("token", data)


def _frame(event: str, data: str) -> bytes:
    # JSON has no line breaks outside of strings and escapes those inside: one data line is enough.
    return f"event: {event}\ndata: {data}\n\n".encode()
