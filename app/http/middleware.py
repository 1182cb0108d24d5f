"""Pure ASGI middleware: request ids, HTTP metrics with an access line, and a limit on bodies.

`app/main.py` stacks them: `RequestContext` outermost, around the handler of unforeseen errors, so
that every response has its id and every request is counted; `BodyLimit` next to the routes, so
that the error table shapes its refusal. None of them touches a body that passes.
"""

import logging
import re
import uuid

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.state import Services, ServiceStatus

REQUEST_ID_HEADER = "X-Request-Id"
VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
UNMATCHED = "unmatched"
QUIET_ENDPOINTS = frozenset({"/health", "/livez", "/readyz", "/startupz", "/metrics"})

access_logger = logging.getLogger("app.access")


class RequestContext:
    """Gives each request an id, counts and times it, and closes connections while draining."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection; only HTTP requests are touched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500  # what the client gets when nothing was sent

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(MutableHeaders(scope=message), request_id)
            await send(message)

        clock = self._services.clock
        started_at = clock()
        self._services.metrics.request_started()
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._record(scope, status, clock() - started_at)

    def _mark(self, headers: MutableHeaders, request_id: str) -> None:
        headers[REQUEST_ID_HEADER] = request_id
        if self._services.status is ServiceStatus.DRAINING:
            headers["Connection"] = "close"  # the next request shall find another replica

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        endpoint = route_template(scope)
        metrics = self._services.metrics
        metrics.request_ended(endpoint=endpoint, method=scope["method"], status=status)
        if endpoint in QUIET_ENDPOINTS:
            return
        metrics.request_timed(endpoint=endpoint, seconds=seconds)
        if self._services.settings.access_log:
            access_logger.info(
                "%s %s %d %.1fms id=%s",
                *(scope["method"], endpoint, status, seconds * 1000),
                scope["state"]["request_id"],
            )


class BodyLimit:
    """Refuses a body as soon as it is known to be longer than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that raises a 413 where the route reads it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        num_bytes = 0

        async def receive_within_limit() -> Message:
            nonlocal num_bytes
            if declared.isdecimal() and int(declared) > self._max_bytes:
                raise self._too_large()
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, receive_within_limit, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The request body is longer than {self._max_bytes} bytes.")


def route_template(scope: Scope) -> str:
    """The path template of the route that answered, or "unmatched": few values, none a client's.

    FastAPI keeps the full template of a route in an included router apart from the route itself,
    and of its own pages (the API's document and what shows it) notes the endpoint only.
    """
    context = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(context or scope.get("route") or _route_of_endpoint(scope), "path", None)
    return path if isinstance(path, str) else UNMATCHED


def _route_of_endpoint(scope: Scope) -> Route | None:
    endpoint, app = scope.get("endpoint"), scope.get("app")
    if endpoint is None or not isinstance(app, Starlette):
        return None
    routes = (route for route in app.routes if isinstance(route, Route))
    return next((route for route in routes if route.endpoint is endpoint), None)


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if VALID_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
