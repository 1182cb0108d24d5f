"""The row on what clients did not get, and whose fault it was."""

from monitoring.grafana.panel import Panel, Row
from monitoring.grafana.queries import rate

ERRORS = Row(
    "Errors and refusals",
    (
        Panel(
            "Answers by status",
            "reqps",
            "Other than 2xx. 503 and 429 are refusals, 499 clients that hung up.",
            {"{{status}}": rate("api_requests_total", "status", 'status!~"2.."')},
            is_stacked=True,
        ),
        Panel(
            "Refused before generation",
            "reqps",
            "By code: mistakes of clients, keys, and want of room.",
            {"{{reason}}": rate("requests_rejected_total", "reason")},
            is_stacked=True,
        ),
        Panel(
            "Failed and given up",
            "ops",
            "Failures are the engine's, cancellations clients that left, timeouts asked for.",
            {
                "failures": rate("engine_failures_total"),
                "cancellations": rate("cancellations_total"),
                "timeouts": rate("timeouts_total"),
                "queue timeouts": rate("queue_timeouts_total"),
            },
        ),
    ),
)
