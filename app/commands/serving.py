"""What `beamline serve` does once its options are read and its port is bound.

Builds the application and runs the server until it has stopped. Everything that loads torch is
imported from here and not from `serve.py`, which therefore answers `--help` and mistakes at once.
"""

import gc
import logging
import os
import socket
import time
from contextlib import ExitStack

import psutil
from rich.console import Console

from app.main import create_app
from app.process.listener import url_of
from app.process.progress import shown_progress
from app.process.server import DrainingServer
from app.settings import Settings
from app.state import Services

logger = logging.getLogger(__name__)


def serve_until_stopped(settings: Settings, listener: socket.socket) -> int:
    """Serve on a bound socket until a signal or a failure ends it; returns the exit code.

    Raises:
        InvalidStrategy: an installed plugin is not a decoding strategy.
    """
    console = Console(stderr=True)
    with ExitStack() as display:
        progress = display.enter_context(shown_progress(console))
        app = create_app(settings, progress=progress)
        services: Services = app.state.services
        url = url_of(listener, is_tls=settings.tls_cert is not None)

        def on_settled() -> None:
            display.close()
            gc.freeze()  # what a start made stays: later collections need not look at it
            gc.enable()
            _announce(services, url)

        server = DrainingServer(app, on_settled=on_settled)
        server.run(sockets=[listener])
    if services.has_stuck_thread:  # the interpreter's own exit could crash on it
        logging.shutdown()
        os._exit(server.exit_code)
    return server.exit_code


def _announce(services: Services, url: str) -> None:
    model = services.model
    if model is None or not services.was_ready:
        return
    seconds = time.time() - psutil.Process().create_time()
    logger.info(
        "ready: %s serves %s with %s on %s in %s, %.1f s after the start",
        *(url, model.name, model.runtime, model.device, model.dtype, seconds),
    )
