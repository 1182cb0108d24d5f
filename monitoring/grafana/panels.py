"""What the dashboard shows, row by row; the unit says how Grafana writes the numbers.

A panel is a question of somebody who operates the service, and its description says how to read
the answer. Queries are by legend.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.grafana.queries import mean, quantile, rate, series, share, total

QUIET = 'endpoint!~"/health|/livez|/readyz|/startupz|/metrics"'
REQUESTS = f"({rate('api_requests_total', where=QUIET)})"
STEPS = rate("engine_steps_total")
FIRST_TOKEN, BETWEEN = "time_to_first_token_seconds", "inter_token_latency_seconds"
BY_STRATEGY, DURATION = "strategy", "strategy_generation_duration_seconds"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph, or a number if `is_number`, of the queries."""

    title: str
    unit: str
    description: str
    queries: Mapping[str, str]
    is_number: bool = False
    is_stacked: bool = False
    is_often_empty: bool = False  # there is nothing to see in many a service, as without a GPU


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a title."""

    title: str
    panels: tuple[Panel, ...]


def percentiles(name: str) -> dict[str, str]:
    """The median, p95 and p99 of a histogram."""
    return {
        "p50": quantile(0.5, name),
        "p95": quantile(0.95, name),
        "p99": quantile(0.99, name),
    }


def number(title: str, unit: str, description: str, query: str) -> Panel:
    """A panel of one number."""
    return Panel(title, unit, description, {title: query}, is_number=True)


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
SCALING = Row(
    "What autoscaling goes by",
    (
        Panel(
            "Waiting requests",
            "none",
            "Generations in the queue. The autoscaler adds replicas by it.",
            {"{{instance}}": total("waiting_requests", "instance")},
        ),
        Panel(
            "Running requests",
            "none",
            "Generations in the batch.",
            {"{{instance}}": total("running_requests", "instance")},
        ),
        Panel(
            "Sequences",
            "none",
            "Rows of the batch, and rows that those who wait will need: beams need several.",
            {"running": total("running_sequences"), "waiting": total("waiting_sequences")},
        ),
    ),
)
ENGINE = Row(
    "Engine",
    (
        Panel(
            "Sequences in a step",
            "none",
            "The mean batch. More is more tokens a second for the same work on weights.",
            {"mean": f"{rate('engine_step_rows_total')} / {STEPS}"},
        ),
        Panel(
            "Time of a step",
            "s",
            "In the model, the draft model included, for each step.",
            {
                "model": f"{rate('engine_forward_seconds_total')} / {STEPS}",
                "draft": f"{rate('spec_decode_draft_seconds_total')} / {STEPS}",
            },
        ),
        Panel(
            "Steps",
            "ops",
            "None while requests run: the engine stalls.",
            {"{{instance}}": rate("engine_steps_total", "instance")},
        ),
        Panel(
            "KV cache in use",
            "percentunit",
            "Of live sequences. Near 1, requests wait for room.",
            {"{{instance}}": total("kv_cache_usage_ratio", "instance")},
        ),
        Panel(
            "Preemptions",
            "ops",
            "Sequences that gave up their room and are computed again.",
            {"{{instance}}": rate("preemptions_total", "instance")},
        ),
        Panel(
            "Guesses that were right",
            "percentunit",
            "Of tokens guessed by a draft model or from the prompt.",
            {
                "accepted": f"{rate('spec_decode_accepted_tokens_total')} / "
                f"{rate('spec_decode_draft_tokens_total')}"
            },
            is_often_empty=True,
        ),
    ),
)
CACHES = Row(
    "Caches",
    (
        Panel(
            "Answers from the cache",
            "percentunit",
            "Of requests that may be answered from it.",
            {"hits": share("response_cache_hits_total", "response_cache_misses_total")},
        ),
        Panel(
            "Prompt tokens from the cache",
            "percentunit",
            "Whose keys and values were there already: prompts that begin alike.",
            {
                "hits": f"{rate('prefix_cache_hit_tokens_total')} / "
                f"{rate('prefix_cache_queried_tokens_total')}"
            },
        ),
        Panel(
            "Cached answers",
            "bytes",
            "What they take in memory.",
            {"{{instance}}": total("response_cache_bytes", "instance")},
        ),
        Panel(
            "Shared cache",
            "ops",
            "Lookups in Redis by outcome. Errors and skipped cost a generation, no request.",
            {"{{outcome}}": rate("shared_cache_lookups_total", "outcome")},
            is_stacked=True,
            is_often_empty=True,
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
PROCESS = Row(
    "Process",
    (
        Panel(
            "Main memory",
            "bytes",
            "Resident, of each process.",
            {"{{instance}}": total("process_resident_memory_bytes", "instance")},
        ),
        Panel(
            "GPU memory",
            "bytes",
            "Allocated on the accelerator; 0 on a CPU.",
            {"{{instance}}": total("gpu_memory_usage_bytes", "instance")},
        ),
        Panel(
            "Cores in use",
            "none",
            "Processor seconds a second.",
            {"{{instance}}": rate("process_cpu_seconds_total", "instance")},
        ),
        Panel(
            "Open requests",
            "none",
            "HTTP requests that are being answered.",
            {"{{instance}}": total("api_requests_in_flight", "instance")},
        ),
        Panel(
            "Uptime",
            "s",
            "Falls to zero with each restart; the marks on all panels are the same moments.",
            {"{{instance}}": f"time() - {total('process_start_time_seconds', 'instance')}"},
        ),
        Panel(
            "Model",
            "none",
            "What each replica serves, and on what.",
            {"{{name}} {{runtime}} {{device}} {{dtype}} {{weights}}": series("model_info")},
        ),
    ),
)
ROWS = (NOW, TRAFFIC, LATENCY, SCALING, ENGINE, CACHES, STRATEGIES, ERRORS, KEYS, PROCESS)
RESTARTS = f"changes({series('process_start_time_seconds')}[$__rate_interval]) > 0"
