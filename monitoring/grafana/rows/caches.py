"""The row on what need not be computed: answers, and prompts that begin alike."""

from monitoring.grafana.panel import Panel, Row
from monitoring.grafana.queries import rate, share, total

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
