"""The row on how long a client waits, and for which part of the way."""

from monitoring.grafana.panel import Panel, Row, percentiles
from monitoring.grafana.queries import BETWEEN, FIRST_TOKEN, quantile

LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time to first token",
            "s",
            "From submitting a generation, waiting included. High: look at the queue first.",
            percentiles(FIRST_TOKEN),
        ),
        Panel(
            "Time between tokens",
            "s",
            "Each token counts once. Grows with the batch, and with long prompts beside.",
            percentiles(BETWEEN),
        ),
        Panel(
            "Time in the queue",
            "s",
            "From submitting a generation to its first step.",
            percentiles("queue_time_seconds"),
        ),
        Panel(
            "Time in the engine",
            "s",
            "From the first step to the last token.",
            percentiles("model_inference_duration_seconds"),
        ),
        Panel(
            "HTTP p95 by route",
            "s",
            "From a request's first byte to its answer's last; streams count to their end.",
            {"{{endpoint}}": quantile(0.95, "api_request_duration_seconds", "endpoint")},
        ),
        Panel(
            "Event loop lag",
            "s",
            "By how much timers are late: every request and probe waits as long.",
            percentiles("event_loop_lag_seconds"),
        ),
    ),
)
