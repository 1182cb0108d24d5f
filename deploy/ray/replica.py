"""One replica: the application of `beamline serve` in a process that Ray starts, watches and ends.

A front calls `answer` with a request and gets the ASGI messages of its response. The model is
loaded when Ray calls the replica ready; an engine that died makes its health check fail, and Ray
starts another. Ray routes nothing new to a replica that is to end, waits for what runs and then
calls `__del__`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi import HTTPException, Request
from ray import serve
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.error_handlers import answer_error
from app.main import DIALECTS, create_app
from app.process.logs import configure_logging
from app.routes.health import liveness_problem, readiness_problem
from app.settings import load_settings
from app.state import Services, ServiceStatus
from deploy.ray.arguments import Arguments
from deploy.ray.call import REPLICA_HEADER, Declined, HttpCall, WholeAnswer
from deploy.ray.exchange import Exchange
from deploy.ray.scaling import WAITING_REQUESTS

POLL_SECONDS = 0.05


class Replica:
    """A service that fronts call. All of it runs on one event loop."""

    async def __init__(self, arguments: Arguments) -> None:  # type: ignore[misc]  # Ray awaits it
        """Load the model.

        Raises:
            RuntimeError: it cannot be loaded; Ray tells why and tries again.
        """
        settings = load_settings(arguments.settings)
        configure_logging(level=settings.log_level, log_format=settings.log_format)
        self._id: str = serve.get_replica_context().replica_id.unique_id
        app = create_app(settings)
        self._app: ASGIApp = app
        self._services: Services = app.state.services
        self._running = AsyncExitStack()
        await self._running.enter_async_context(app.router.lifespan_context(app))
        while self._services.status is ServiceStatus.LOADING:  # noqa: ASYNC110  has no event
            await asyncio.sleep(POLL_SECONDS)
        self.check_health()

    async def answer(self, call: HttpCall) -> AsyncIterator[list[Message] | Declined]:
        """The ASGI messages of the response; first an empty list, when the request is taken.

        While no request can be served, it is declined, so that another replica may serve it.
        """
        if (declined := self._declines(call)) is not None:
            yield declined
            return
        exchange = Exchange(self._app_for(call), call)
        try:
            yield []
            async for messages in exchange.batches():
                yield [self._named(message) for message in messages]
        finally:
            await exchange.close()

    async def answer_whole(self, call: HttpCall) -> WholeAnswer:
        """The whole response at once, for calls that go to every replica."""
        batches = [said async for said in self.answer(call) if not isinstance(said, Declined)]
        messages = [message for batch in batches for message in batch]
        start = messages[0]
        return WholeAnswer(
            replica=self._id,
            status=start["status"],
            headers=list(start["headers"]),
            body=b"".join(each.get("body", b"") for each in messages[1:]),
        )

    def check_health(self) -> None:
        """Raise if only a new replica helps. Ray asks every few seconds."""
        if (problem := liveness_problem(self._services)) is not None:
            raise RuntimeError(problem)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `scaling.py` wants to know of each replica."""
        worker = self._services.worker
        return {WAITING_REQUESTS: 0.0 if worker is None else float(worker.num_waiting)}

    async def __del__(self) -> None:
        """Take the service apart; Ray has waited for what ran."""
        await self._running.aclose()

    def _declines(self, call: HttpCall) -> Declined | None:
        if call.must_answer or call.replica is not None:
            return None
        problem = readiness_problem(self._services)
        return None if problem is None else Declined(replica=self._id, reason=problem)

    def _app_for(self, call: HttpCall) -> ASGIApp:
        return self._app if call.replica in (None, self._id) else _refuse_stranger

    def _named(self, message: Message) -> Message:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[REPLICA_HEADER] = self._id
        return message


async def _refuse_stranger(scope: Scope, receive: Receive, send: Send) -> None:
    error = HTTPException(404, f"There is no such replica any more as {REPLICA_HEADER} names.")
    response = answer_error(error, Request(scope), DIALECTS)
    await response(scope, receive, send)
