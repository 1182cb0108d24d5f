"""Rows on what is asked and answered: by route and end, by decoding strategy, by API key."""

from monitoring.grafana.panel import Panel, Row
from monitoring.grafana.queries import QUIET, mean, quantile, rate

BY_STRATEGY, DURATION = "strategy", "strategy_generation_duration_seconds"

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Tokens",
            "suffix: tok/s",
            "Prompt tokens taken in, new tokens given out, and tokens the model computed: more "
            "than both where beams are dropped, fewer where prefixes were cached.",
            {
                "prompt": rate("prompt_tokens_total"),
                "new": rate("generated_tokens_total"),
                "computed": rate("engine_step_tokens_total"),
            },
        ),
        Panel(
            "Requests by route",
            "reqps",
            "Answers a second, whatever their status.",
            {"{{endpoint}}": rate("api_requests_total", "endpoint", QUIET)},
            is_stacked=True,
        ),
        Panel(
            "Sequences by end",
            "ops",
            "Why they ended: eos and stop by themselves, length at the limit, timeout cut short.",
            {"{{reason}}": rate("generations_finished_total", "reason")},
            is_stacked=True,
        ),
    ),
)
STRATEGIES = Row(
    "Strategies",
    (
        Panel(
            "New tokens by strategy",
            "suffix: tok/s",
            "Of answers that were finished.",
            {"{{strategy}}": rate("strategy_generated_tokens_total", BY_STRATEGY)},
            is_stacked=True,
        ),
        Panel(
            "Generation p95 by strategy",
            "s",
            "From submission to the last token.",
            {"{{strategy}}": quantile(0.95, DURATION, BY_STRATEGY)},
        ),
        Panel(
            "Mean generation by strategy",
            "s",
            "The same, its mean.",
            {"{{strategy}}": mean(DURATION, BY_STRATEGY)},
        ),
    ),
)
KEYS = Row(
    "Keys",
    (
        Panel(
            "Requests by key",
            "reqps",
            "By the names that operators gave.",
            {"{{key}}": rate("api_key_requests_total", "key")},
            is_stacked=True,
            is_often_empty=True,
        ),
        Panel(
            "Tokens by key",
            "suffix: tok/s",
            "Prompts and answers, as limits count them.",
            {"{{key}}": rate("api_key_tokens_total", "key")},
            is_stacked=True,
            is_often_empty=True,
        ),
        Panel(
            "Over their limit",
            "reqps",
            "Requests refused since the key has used up its minute.",
            {"{{key}} {{unit}}": rate("api_key_rate_limited_total", "key,unit")},
            is_often_empty=True,
        ),
    ),
)
