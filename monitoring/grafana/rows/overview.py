"""The row that is looked at first: is it up, how much is asked, how long does it take."""

from monitoring.grafana.panel import Row, number
from monitoring.grafana.queries import BETWEEN, FIRST_TOKEN, QUIET, quantile, rate, total

REQUESTS = f"({rate('api_requests_total', where=QUIET)})"

NOW = Row(
    "Now",
    (
        number(
            "Ready", "none", "Replicas that take requests, as /readyz says.", total("service_ready")
        ),
        number(
            "Firing alerts",
            "none",
            "Alerts of the service that fire.",
            'count(ALERTS{alertname=~"Beamline.*",alertstate="firing"}) or vector(0)',
        ),
        number("Requests", "reqps", "Answered a second, probes aside.", REQUESTS),
        number(
            "New tokens", "suffix: tok/s", "Generated for answers.", rate("generated_tokens_total")
        ),
        number("First token p95", "s", "From submission.", quantile(0.95, FIRST_TOKEN)),
        number("Between tokens p95", "s", "Of a sequence.", quantile(0.95, BETWEEN)),
    ),
)
