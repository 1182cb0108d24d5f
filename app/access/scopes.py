"""What a key may be used for, and which of it a path needs.

The rule is by path and closed by default: a route that is added later, a path that does not exist
and the API's document all need a key that may generate. Only the probes are open to everybody,
since what asks them, an orchestrator, has no key.
"""

from enum import StrEnum

PROBES = frozenset({"/health", "/livez", "/readyz", "/startupz"})
METRICS_PATH = "/metrics"
ADMIN_PATH = "/admin"


class Scope(StrEnum):
    """One permission. They are independent: `admin` alone may not generate."""

    GENERATE = "generate"  # everything that is not one of the others
    METRICS = "metrics"  # scrape `GET /metrics`
    ADMIN = "admin"  # all below `/admin`


def needed_scope(path: str, *, is_metrics_open: bool) -> Scope | None:
    """The scope that a path needs; None: it is open to everybody."""
    if path in PROBES:
        return None
    if path == METRICS_PATH:
        return None if is_metrics_open else Scope.METRICS
    if path == ADMIN_PATH or path.startswith(ADMIN_PATH + "/"):
        return Scope.ADMIN
    return Scope.GENERATE
