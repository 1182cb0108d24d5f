"""Pure ASGI middleware: request ids, HTTP metrics, a record of each request, a limit on bodies.

`app/main.py` stacks them: `RequestContext` outermost, around the handler of unforeseen errors, so
that every response has its id and every request is counted and told of; `BodyLimit` next to the
routes, so that the error table shapes its refusal. None of them touches a body that passes.
"""

import re
import uuid

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.state import Services, ServiceStatus
from app.telemetry.journal import QUIET_ENDPOINTS
from app.telemetry.record import RequestRecord, recorded

REQUEST_ID_HEADER = "X-Request-Id"
VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
UNMATCHED = "unmatched"
REQUEST_ID_ALIAS = "X-Client-Request-Id"  # as clients of OpenAI's API send theirs


class RequestContext:
    """Gives each request an id and a record, counts it, and closes connections while draining."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection; only HTTP requests are touched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, clock = Headers(scope=scope), self._services.clock
        request_id = _request_id(headers)
        record = RequestRecord(
            request_id=request_id,
            method=scope["method"],
            headers=headers,
            received_at=clock(),
            observers=self._services.observers,
        )
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500  # what the client gets when nothing was sent

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(MutableHeaders(scope=message), request_id)
            await send(message)

        self._services.metrics.request_started()
        with recorded(record):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                record.end(endpoint=route_template(scope), status=status, ended_at=clock())
                self._count(record, status)

    def _mark(self, headers: MutableHeaders, request_id: str) -> None:
        headers[REQUEST_ID_HEADER] = request_id
        if self._services.status is ServiceStatus.DRAINING:
            headers["Connection"] = "close"  # the next request shall find another replica

    def _count(self, record: RequestRecord, status: int) -> None:
        endpoint, metrics = record.endpoint or UNMATCHED, self._services.metrics
        metrics.request_ended(endpoint=endpoint, method=record.method, status=status)
        if record.key_name is not None:
            metrics.key_request(record.key_name, status)
        if endpoint not in QUIET_ENDPOINTS and record.ended_at is not None:
            seconds = record.ended_at - record.received_at
            metrics.request_timed(endpoint=endpoint, seconds=seconds)


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
    given = headers.get(REQUEST_ID_HEADER, headers.get(REQUEST_ID_ALIAS, ""))
    return given if VALID_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
