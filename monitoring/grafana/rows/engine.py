"""Rows on the batch: its queue, by which replicas are added, and what a step does."""

from monitoring.grafana.panel import Panel, Row
from monitoring.grafana.queries import rate, total

STEPS = rate("engine_steps_total")

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
