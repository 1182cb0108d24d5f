"""Pure ASGI middleware at the service's door: keys, and requests per minute.

`app/main.py` puts it around all routes, those of the framework and paths that do not exist
included, so no route can be forgotten. Who passes and why is decided in `app/access`. It goes by
the path that the router goes by, and never by one that is made of the `Host` header.
"""

from collections.abc import Sequence
from functools import partial

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.meter import Meter
from app.access.scopes import Scope as KeyScope
from app.error_replies import describe
from app.errors import AppError
from app.http.error_handlers import Dialect, answer_error
from app.http.paths import path_of
from app.state import Services
from app.telemetry.record import current_request

POLICY_VIOLATION = 1008  # closes a WebSocket


class Authentication:
    """Lets requests pass that may, and tells them what is left of their key's minute."""

    def __init__(self, app: ASGIApp, services: Services, dialects: Sequence[Dialect]) -> None:
        self._app = app
        self._services = services
        self._dialects = dialects  # refusals are written as the path's API writes errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket" and self._services.gate.needs_keys:
            # There is none to protect yet; one that is added shall not be open by oversight.
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        try:
            meter = self._services.gate.admit(path, Headers(scope=scope))
        except AppError as error:
            await self._refuse(error, scope, receive, send)
            return
        if meter is None:
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["meter"] = meter
        if (record := current_request()) is not None:
            record.key_name = meter.key.name
        send = partial(_send_with_standing, meter, send)
        try:
            if self._counts(scope):
                await meter.take_request()
        except AppError as error:
            await self._refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _counts(self, scope: Scope) -> bool:
        """Whether it is one of the requests that a key has a number of: not a look at a job.

        Nor one that comes again: a host whose replica died over it says `is_counted`.
        """
        if scope["method"] != "POST" or scope["state"].get("is_counted", False):
            return False
        return self._services.gate.needed_scope(path_of(scope)) is KeyScope.GENERATE

    async def _refuse(self, error: AppError, scope: Scope, receive: Receive, send: Send) -> None:
        self._services.metrics.rejected(describe(error).code)
        response = answer_error(error, Request(scope), self._dialects)
        await response(scope, receive, send)


async def _send_with_standing(meter: Meter, send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        MutableHeaders(scope=message).update(meter.headers())
    await send(message)
