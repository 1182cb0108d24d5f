"""Where requests arrive: reads each, has a replica answer it, and hands the answer on.

An ASGI application that Ray's HTTP proxy calls. It holds no model and judges no request: keys,
limits and mistakes are the replica's. Its one promise: **a request whose replica dies before the
first byte of the answer is asked again elsewhere**, which is safe, since nobody has seen anything
of the first try. What fails after that is told in the stream, as the service itself does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Protocol, cast

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.bodies.by_inputs import has_inputs
from app.errors import AppError, ClientDisconnected, ServiceUnavailable
from app.http.disconnect import run_until_disconnect
from app.tgi.errors import speak_tgi
from deploy.ray.affinity import affinity_key, fields_of
from deploy.ray.call import REPLICA_HEADER, Declined, HttpCall, WholeAnswer, sendable
from deploy.ray.delivery import Delivery
from deploy.ray.fleet_metrics import CONTENT_TYPE, merge_metrics

METRICS = ("GET", "/metrics")
METRICS_SECONDS = 8.0  # Prometheus gives up after 10
SHARED_PATHS = frozenset({"/generate"})  # where a body with `inputs` is TGI's

logger = logging.getLogger(__name__)


class ReplicaGone(Exception):
    """The replica died, or cannot be reached, with the request not answered."""


class ReplicaDeclined(Exception):
    """The replica takes no requests now, and others may."""

    def __init__(self, declined: Declined) -> None:
        super().__init__(declined.reason)
        self.replica = declined.replica


class NoReplica(Exception):
    """No replica takes the request."""


class Fleet(Protocol):
    """The replicas, as `fleet.py` wraps Ray's handle for them."""

    def ask(self, call: HttpCall) -> AsyncIterator[list[Message]]:
        """Have one replica answer: an empty list when it has taken the call, then its messages.

        Raises:
            ReplicaGone: it died or was lost.
            ReplicaDeclined: it takes no requests now.
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
        delivery = Delivery(scope, send)
        try:
            call = await self._read(scope, receive)
            if (scope["method"], call.scope["path"]) == METRICS and call.replica is None:
                await self._send_metrics(call, delivery)
            else:
                await run_until_disconnect(receive, self._answer(call, delivery))
        except ClientDisconnected:
            return
        except (AppError, HTTPException) as error:
            await delivery.fail(error)

    async def _read(self, scope: Scope, receive: Receive) -> HttpCall:
        headers, sent = Headers(scope=scope), sendable(scope)
        body = await _read_body(receive, self._limits.max_body_bytes)
        fields = fields_of(body)
        if has_inputs(fields) and sent["path"] in SHARED_PATHS:
            speak_tgi(Request(scope))
        key = affinity_key(headers, fields, prefix_characters=self._limits.prefix_characters)
        replica = headers.get(REPLICA_HEADER)
        return HttpCall(scope=sent, body=body, affinity_key=key, replica=replica)

    async def _answer(self, call: HttpCall, delivery: Delivery) -> None:
        num_deaths = 0
        while num_deaths < self._limits.max_attempts:
            try:
                await self._ask_once(call, delivery)
            except ReplicaGone as error:
                num_deaths += 1
                logger.warning("a replica was lost in attempt %d: %s", num_deaths, error)
                if delivery.has_spoken:
                    break
                call = replace(call, is_repeated=True)
            except ReplicaDeclined as error:
                logger.info("a replica declines: %s", error)
                call = _elsewhere(call, error.replica)
            except (NoReplica, TimeoutError) as error:
                raise ServiceUnavailable("No replica takes requests now; try again.") from error
            else:
                return
        raise ServiceUnavailable("The replica that was to answer has died; try again.")

    async def _ask_once(self, call: HttpCall, delivery: Delivery) -> None:
        answer = self._fleet.ask(call)
        try:
            async with asyncio.timeout(self._limits.accept_seconds):
                await anext(answer)
            async for messages in answer:
                for message in messages:
                    await delivery.send(message)
        finally:
            await answer.aclose()  # type: ignore[attr-defined]  # it is a generator

    async def _send_metrics(self, call: HttpCall, delivery: Delivery) -> None:
        """Those of all replicas; each asks for itself whether the key may see them."""
        asked = replace(call, scope=_without_accept(call.scope), must_answer=True)
        answers = await self._fleet.ask_all(asked, seconds=METRICS_SECONDS)
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


def _elsewhere(call: HttpCall, replica: str) -> HttpCall:
    """The same for others; if it comes back to one that has declined, there are none."""
    if replica in call.avoided:
        return replace(call, must_answer=True)
    return replace(call, avoided=call.avoided | {replica})


def _without_accept(scope: dict[str, object]) -> dict[str, object]:
    """Pages are merged in the plain text format, whatever else the scraper could read."""
    headers = cast("list[tuple[bytes, bytes]]", scope["headers"])
    return {**scope, "headers": [header for header in headers if header[0] != b"accept"]}


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
