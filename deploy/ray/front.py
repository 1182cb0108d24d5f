"""Where requests arrive: reads each, has a replica answer it, and hands the answer on.

An ASGI application that Ray's HTTP proxy calls. It holds no model and judges no request: keys,
limits and mistakes are the replica's. Its one promise: **a request whose replica dies before the
first byte of the answer is asked again elsewhere**, which is safe, since nobody has seen anything
of the first try. What fails after that is told in the stream, as the service itself does.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.error_replies import describe
from app.errors import AppError, ClientDisconnected, ServiceUnavailable
from app.http.disconnect import run_until_disconnect
from app.http.error_handlers import Dialect, answer_error
from app.http.paths import path_of
from app.openai.errors import DIALECT as OPENAI_DIALECT
from app.openai.errors import RESPONSE_DIALECT
from app.tgi.errors import DIALECT as TGI_DIALECT
from deploy.ray.affinity import affinity_key
from deploy.ray.call import REPLICA_HEADER, HttpCall, WholeAnswer, sendable
from deploy.ray.fleet_metrics import CONTENT_TYPE, merge_metrics

DIALECTS: Sequence[Dialect] = (RESPONSE_DIALECT, OPENAI_DIALECT, TGI_DIALECT)
METRICS_PATH = "/metrics"
METRICS_SECONDS = 8.0  # Prometheus gives up after 10
REQUEST_ID_HEADER = "x-request-id"  # which Ray gives to requests and sets on responses itself

logger = logging.getLogger(__name__)


class ReplicaGone(Exception):
    """The replica died, or cannot be reached, with the request not answered."""


class NoReplica(Exception):
    """No replica takes the request."""


class Fleet(Protocol):
    """The replicas, as `fleet.py` wraps Ray's handle for them."""

    def ask(self, call: HttpCall) -> AsyncIterator[list[Message]]:
        """Have one replica answer: an empty list when it has taken the call, then its messages.

        Raises:
            ReplicaGone: it died or was lost.
            NoReplica: there is none.
        """
        ...

    async def ask_all(self, call: HttpCall, *, seconds: float) -> list[WholeAnswer]:
        """The answers of all replicas that answer in time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """How much, how often and how long."""

    max_body_bytes: int
    prefix_characters: int
    max_attempts: int
    accept_seconds: float


class Front:
    """The application. Holds no state between requests."""

    def __init__(self, fleet: Fleet, limits: FrontLimits) -> None:
        self._fleet = fleet
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:  # the service has no WebSockets
            await send({"type": "websocket.close", "code": 1008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        delivery = _Delivery(scope, send)
        try:
            call = await self._read(scope, receive)
            if call.scope["path"] == METRICS_PATH and call.replica is None:
                await self._send_metrics(call, delivery)
            else:
                await run_until_disconnect(receive, self._answer(call, delivery))
        except ClientDisconnected:
            return
        except (AppError, HTTPException) as error:
            await delivery.fail(error)

    async def _read(self, scope: Scope, receive: Receive) -> HttpCall:
        headers = Headers(scope=scope)
        body = await _read_body(receive, self._limits.max_body_bytes)
        key = affinity_key(headers, body, prefix_characters=self._limits.prefix_characters)
        replica = headers.get(REPLICA_HEADER)
        return HttpCall(scope=sendable(scope), body=body, affinity_key=key, replica=replica)

    async def _answer(self, call: HttpCall, delivery: "_Delivery") -> None:
        for attempt in range(1, self._limits.max_attempts + 1):
            try:
                await self._ask_once(call, delivery)
            except ReplicaGone as error:
                logger.warning("a replica was lost in attempt %d: %s", attempt, error)
                if delivery.has_begun:
                    break
            except (NoReplica, TimeoutError) as error:
                raise ServiceUnavailable("No replica takes requests now; try again.") from error
            else:
                return
        raise ServiceUnavailable("The replica that was to answer has died; try again.")

    async def _ask_once(self, call: HttpCall, delivery: "_Delivery") -> None:
        answer = self._fleet.ask(call)
        try:
            async with asyncio.timeout(self._limits.accept_seconds):
                await anext(answer)
            async for messages in answer:
                for message in messages:
                    await delivery.send(message)
        finally:
            await answer.aclose()  # type: ignore[attr-defined]  # it is a generator

    async def _send_metrics(self, call: HttpCall, delivery: "_Delivery") -> None:
        """Those of all replicas; each asks for itself whether the key may see them."""
        answers = await self._fleet.ask_all(call, seconds=METRICS_SECONDS)
        if not answers:
            raise ServiceUnavailable("No replica answers now; try again.")
        refused = next((each for each in answers if each.status != 200), None)
        if refused is not None:
            await delivery.send(
                {
                    "type": "http.response.start",
                    "status": refused.status,
                    "headers": refused.headers,
                }
            )
            await delivery.send({"type": "http.response.body", "body": refused.body})
            return
        page = merge_metrics({each.replica: each.body.decode() for each in answers})
        await delivery.respond(Response(page, headers={"Content-Type": CONTENT_TYPE}))


class _Delivery:
    """The response to one request, as far as it is sent."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self.has_begun = False
        self._is_stream = False

    async def send(self, message: Message) -> None:
        """Hand on a message of the replica's."""
        self.has_begun = True
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            del headers[REQUEST_ID_HEADER]
            self._is_stream = headers.get("content-type", "").startswith("text/event-stream")
        await self._send(message)

    async def respond(self, response: Response) -> None:
        """Send a response of our own."""
        self.has_begun = True
        await response(self._scope, _nothing, self._send)

    async def fail(self, error: Exception) -> None:
        """Tell of a failure in the shape of the path's API, with a status if there is time.

        Raises:
            Exception: the error itself, which cuts the connection: half an answer that is no
                stream cannot be told from a whole one otherwise.
        """
        if not self.has_begun:
            await self.respond(answer_error(error, Request(self._scope), DIALECTS))
        elif self._is_stream:
            frame = _error_frame(error, self._scope)
            await self._send({"type": "http.response.body", "body": frame, "more_body": False})
        else:
            raise error


def _error_frame(error: Exception, scope: Scope) -> bytes:
    request = Request(scope)
    spoken = next((each for each in DIALECTS if each.covers(request, error)), None)
    reply = describe(error)
    is_ours = spoken is None and path_of(scope).startswith("/generate")
    told = json.dumps((reply if spoken is None else spoken.translate(reply)).as_json())
    return f"{'event: error' + chr(10) if is_ours else ''}data: {told}\n\n".encode()


async def _read_body(receive: Receive, max_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("The client closed the connection.")
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise HTTPException(413, f"The request body is longer than {max_bytes} bytes.")
        if not message.get("more_body", False):
            return bytes(body)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        stage = (await receive())["type"]
        await send({"type": f"{stage}.complete"})
        if stage == "lifespan.shutdown":
            return


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
