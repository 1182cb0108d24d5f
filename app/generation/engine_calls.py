"""One question to the engine and its whole answer, for what is not generation: scores, decisions.

Several run side by side in the engine's batch. A caller that is cancelled takes its request along.
Lives on the event loop.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.access.meter import Meter
from app.errors import Overloaded
from app.generation.engine_queue import EngineQueue
from app.generation.event_router import EventRouter
from app.telemetry.record import unique_id
from engine.messages import Event, GenerationRequest, RequestFailed, RequestFinished
from engine.worker import EngineWorker


class EngineCalls:
    """Asks one engine. Used on the event loop only."""

    def __init__(self, worker: EngineWorker, router: EventRouter, queue: EngineQueue) -> None:
        self._worker = worker
        self._router = router
        self._queue = queue
        self.num_open = 0  # callers that wait

    async def ask_all(
        self, requests: Sequence[GenerationRequest], meter: Meter | None
    ) -> list[RequestFinished]:
        """The answers, in order of the requests; the ids of these do not matter.

        Raises:
            EngineError, Overloaded: one of them failed or could not be submitted; the others are
                given up.
            InvalidRequest, RateLimited: the key behind `meter` may not use so many tokens.
        """
        num_tokens = sum(len(request.prompt_ids) for request in requests)
        reservation = None if meter is None else await meter.reserve(num_tokens, param=None)
        tasks = [asyncio.create_task(self._ask(request)) for request in requests]
        self.num_open += 1
        try:
            return list(await asyncio.gather(*tasks))
        except Overloaded:
            num_tokens = 0  # what is refused costs nothing
            raise
        finally:
            if reservation is not None:
                reservation.settle(num_tokens)  # nothing is generated: it is known in advance
            self.num_open -= 1
            for task in tasks:
                task.cancel()

    async def _ask(self, request: GenerationRequest) -> RequestFinished:
        request_id = unique_id()
        listener = _Listener(asyncio.get_running_loop().create_future())
        self._router.register(request_id, listener)
        try:
            self._queue.submit(replace(request, request_id=request_id))
            try:
                return await listener.ended
            finally:
                self._queue.note_end()
        except asyncio.CancelledError:
            self._worker.cancel(request_id)
            raise
        finally:
            self._router.unregister(request_id)


class _Listener:
    """Waits for the end of one request."""

    def __init__(self, ended: "asyncio.Future[RequestFinished]") -> None:
        self.ended = ended

    def receive(self, event: Event) -> None:
        """Take an event of the engine; tokens do not matter."""
        if isinstance(event, RequestFinished) and not self.ended.done():
            self.ended.set_result(event)
        elif isinstance(event, RequestFailed):
            self.fail(event.error)

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        if not self.ended.done():
            self.ended.set_exception(error)
