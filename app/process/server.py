"""The HTTP server of `beamline serve`: uvicorn with a proper end.

On SIGTERM or SIGINT the service drains first: the socket goes on accepting, readiness says 503,
new work is refused, running requests and jobs finish within the grace time, the rest is told so;
only then does the server close, with exit code 0. A second signal ends the process at once.
"""

import logging
import math
import os
import signal
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.process.tls import build_tls_context
from app.state import Services, ServiceStatus

FLUSH_SECONDS = 5  # for writing the last bytes of answers after the last generation ended

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """Serves one application until a signal has been obeyed or its model turns out unusable."""

    def __init__(self, app: FastAPI, *, on_settled: Callable[[], None]) -> None:
        self._services: Services = app.state.services
        context = build_tls_context(self._services.settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            ssl_context_factory=None if context is None else lambda *_: context,
        )
        super().__init__(config)
        self._on_settled = on_settled  # called once, when the model is loaded or cannot be
        self._is_settled = False
        self._signal: int | None = None
        self._deadline: float | None = None  # set when draining begins

    @property
    def exit_code(self) -> int:
        """What the process should exit with after `run`."""
        return 1 if self._services.status is ServiceStatus.FAILED else 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the first signal; leave at once on the second. Called in the main thread."""
        del frame
        if self._signal is not None:
            logger.warning("second signal: stopping at once")
            logging.shutdown()
            os._exit(128 + sig)
        self._signal = sig

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's heartbeat, ten times a second: follow the service and the signals."""
        self._follow_service()
        if self._signal is not None:
            self._drain(signal.Signals(self._signal).name)
        return await super().on_tick(counter)

    def _follow_service(self) -> None:
        services = self._services
        if not self._is_settled and services.status is not ServiceStatus.LOADING:
            self._is_settled = True
            self._on_settled()
        worker = services.worker
        if worker is not None and not worker.is_healthy:
            services.become_failed(RuntimeError("the engine has failed"))
        if services.shards is not None and services.engine_problem is not None:
            # Not even a step that hangs is waited for: without one of them it never ends.
            services.become_failed(RuntimeError(services.engine_problem))
        if services.status is ServiceStatus.FAILED and not self.should_exit:
            self._give_up()

    def _give_up(self) -> None:
        """End at once; what waits for the engine, which may hang in a step, is told why."""
        if self._services.generator is not None:
            self._services.generator.abort_all(self._services.status_reason)
        self.config.timeout_graceful_shutdown = FLUSH_SECONDS
        self.should_exit = True

    def _drain(self, reason: str) -> None:
        services = self._services
        if self._deadline is None:
            self._deadline = self._begin_drain(reason)
        num_left = services.num_in_flight
        seconds_left = self._deadline - services.clock()
        if num_left and seconds_left > 0:
            return
        if num_left and services.generator is not None:
            logger.warning("grace time is over: ending %d generations", num_left)
            services.generator.abort_all("the service is shutting down")
        self.config.timeout_graceful_shutdown = max(FLUSH_SECONDS, math.ceil(seconds_left))
        self.should_exit = True

    def _begin_drain(self, reason: str) -> float:
        services = self._services
        services.become_draining(f"received {reason}")
        grace = services.settings.grace_seconds
        logger.info(
            "%s: draining %d generations for at most %.0f s; a second signal stops at once",
            *(reason, services.num_in_flight, grace),
        )
        return services.clock() + grace
