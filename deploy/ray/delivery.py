"""The response to one request, as far as it is sent. `front.py` makes one for each.

It hands on what replicas say, and knows whether anything of an answer has been said: until then
another replica may begin anew, even in a stream that has begun with nothing but comments. A
failure is told as the service itself tells it: by a status if there is time, else in the stream.
"""

import json
from collections.abc import Sequence

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from app.error_replies import ErrorReply, describe
from app.errors import ServiceUnavailable
from app.http.error_handlers import Dialect, answer_error
from app.http.paths import path_of
from app.openai.errors import DIALECT as OPENAI_DIALECT
from app.openai.errors import RESPONSE_DIALECT
from app.tgi.errors import DIALECT as TGI_DIALECT

DIALECTS: Sequence[Dialect] = (RESPONSE_DIALECT, OPENAI_DIALECT, TGI_DIALECT)
REQUEST_ID_HEADER = "x-request-id"  # which Ray gives to requests and sets on responses itself
EVENT_STREAM = "text/event-stream"
DONE = "data: [DONE]\n\n"


class Delivery:
    """One response. Only the task of its request uses it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._start: Message | None = None  # held until something follows
        self._has_started = False
        self._is_stream = False
        self._num_events = 0
        self.has_spoken = False

    async def send(self, message: Message) -> None:
        """Hand on a message of a replica's.

        Raises:
            ServiceUnavailable: another replica began the stream, and this one refuses the request.
        """
        if message["type"] == "http.response.start":
            self._begin(message)
            return
        body: bytes = message.get("body", b"")
        if not (self._is_stream and _is_comment(body)):
            self.has_spoken = True
            self._num_events += body.count(b"\n\n")
        await self._send_start()
        await self._send(message)

    async def respond(self, response: Response) -> None:
        """Send a response of our own."""
        self.has_spoken = self._has_started = True
        await response(self._scope, _nothing, self._send)

    async def fail(self, error: Exception) -> None:
        """Tell of a failure in the shape of the path's API.

        Raises:
            Exception: the error itself, which cuts the connection: half an answer that is no
                stream cannot be told from a whole one otherwise.
        """
        if not self._has_started:
            await self.respond(answer_error(error, Request(self._scope), DIALECTS))
        elif self._is_stream:
            frame = self._frame(error).encode()
            await self._send({"type": "http.response.body", "body": frame, "more_body": False})
        else:
            raise error

    def _begin(self, start: Message) -> None:
        headers = MutableHeaders(scope=start)
        del headers[REQUEST_ID_HEADER]
        is_stream = headers.get("content-type", "").startswith(EVENT_STREAM)
        if not self._has_started:
            self._start, self._is_stream = start, is_stream
        elif not is_stream:
            raise ServiceUnavailable("The replica that was to answer has died; try again.")

    async def _send_start(self) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            self._has_started = True
            await self._send(start)

    def _frame(self, error: Exception) -> str:
        """The end of a stream that breaks, as `app` writes it on this path."""
        request = Request(self._scope)
        spoken = next((each for each in DIALECTS if each.covers(request, error)), None)
        reply = describe(error) if spoken is None else spoken.translate(describe(error))
        if spoken is RESPONSE_DIALECT:
            return self._response_frame(reply)
        told = f"data: {json.dumps(reply.as_json())}\n\n"
        if spoken is None and path_of(self._scope).startswith("/generate"):
            return f"event: error\n{told}"
        return told + DONE if spoken is OPENAI_DIALECT else told

    def _response_frame(self, reply: ErrorReply) -> str:
        """OpenAI's event for an error outside of the response, which only the replica knew."""
        problem = reply.problems[0]
        told = {
            "type": "error",
            "code": problem.code,
            "message": problem.message,
            "param": problem.param,
            "sequence_number": self._num_events,
        }
        return f"event: error\ndata: {json.dumps(told)}\n\n"


def _is_comment(body: bytes) -> bool:
    """Whether a piece of a stream says nothing: the service sends comments by themselves."""
    return body.startswith(b":") and b"\ndata" not in body


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
