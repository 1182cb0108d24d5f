"""Where traces go, and whether they can be sent at all. Imports nothing of OpenTelemetry.

The command asks before anything slow begins; the lifespan before it loads `tracing.py`.
"""

from importlib.util import find_spec

TRACES_PATH = "/v1/traces"


class TracingUnavailable(Exception):
    """Traces are wanted, and the packages that send them are not installed."""


def traces_url(endpoint: str) -> str:
    """The URL that takes traces of a collector: its own, or one below its base URL."""
    base = endpoint.rstrip("/")
    return base if base.endswith(TRACES_PATH) else base + TRACES_PATH


def check_tracing(endpoint: str | None) -> None:
    """Make sure that what is asked for can be done.

    Raises:
        TracingUnavailable: with what to install.
    """
    if endpoint is None:
        return
    try:
        is_there = find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:  # one of the packages around it
        is_there = False
    if not is_there:
        raise TracingUnavailable(
            f"traces are to be sent to {endpoint}, and OpenTelemetry's exporter is not installed; "
            "run: pip install 'beamline[otel]', or leave --otlp-endpoint out"
        )
