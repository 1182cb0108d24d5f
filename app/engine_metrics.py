"""The gauges and totals that are read when `GET /metrics` is scraped, never pushed.

The engine keeps an `EngineStats` and knows no Prometheus; this collector turns the latest one
into metrics, together with the service's own state. Before the model is loaded every number is
zero, so that dashboards and alerts see the series from the first scrape on.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.shared_cache_metrics import shared_cache_metrics
from app.state import Services, ServiceStatus
from engine.messages import EngineLimits, EngineStats


class ServiceCollector(Collector):
    """Reads a service's engine, caches and status. Register one on the service's registry."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: names are fixed below, and registering must not read the engine."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics, from one snapshot of the engine."""
        worker = self._services.worker
        stats = EngineStats() if worker is None else worker.stats
        yield from _engine_gauges(stats)
        yield from _engine_totals(stats)
        if worker is not None:
            yield _cache_info(worker.limits)
        yield from _service_metrics(self._services)
        if self._services.shared_cache is not None:
            yield from shared_cache_metrics(self._services.shared_cache)


def _engine_gauges(stats: EngineStats) -> Iterator[Metric]:
    capacity = stats.max_cached_tokens
    usage = stats.num_cached_tokens / capacity if capacity else 0.0
    for name, help_text, value in (
        ("running_sequences", "Sequences in the running batch.", stats.num_running_sequences),
        ("running_requests", "Generations in the running batch.", stats.num_running_requests),
        ("waiting_requests", "Generations in the queue.", stats.num_waiting_requests),
        ("waiting_sequences", "Sequences they will need.", stats.num_waiting_sequences),
        ("kv_cache_usage_ratio", "Share of the KV cache in use, 0 to 1.", usage),
        ("kv_cache_capacity_tokens", "Tokens the KV cache holds at most.", capacity),
        (
            "gpu_memory_usage_bytes",
            "Memory allocated on the accelerator; 0 on a CPU.",
            stats.device_memory_bytes,
        ),
    ):
        yield GaugeMetricFamily(name, help_text, value=value)


def _engine_totals(stats: EngineStats) -> Iterator[Metric]:
    for name, help_text, value in (
        ("engine_steps", "Steps of the batch.", stats.num_steps),
        ("engine_step_rows", "Sequences in all steps: over steps, the mean.", stats.num_step_rows),
        ("engine_step_tokens", "Tokens that the steps computed.", stats.num_step_tokens),
        ("engine_forward_seconds", "Time spent inside the model.", stats.forward_seconds),
        ("spec_decode_draft_seconds", "Time spent in the draft model.", stats.draft_seconds),
        ("engine_failures", "Generations that the engine failed.", stats.num_failures),
        (
            "queue_timeouts",
            "Generations that were not begun in the time they could wait.",
            stats.num_queue_timeouts,
        ),
        ("timeouts", "Generations cut short since their time was up.", stats.num_timeouts),
        (
            "engine_generated_tokens",
            "Tokens decided in the batch, abandoned beams included.",
            stats.num_generated_tokens,
        ),
        ("spec_decode_draft_tokens", "Tokens guessed by speculation.", stats.num_draft_tokens),
        (
            "spec_decode_accepted_tokens",
            "Guessed tokens that were chosen indeed.",
            stats.num_accepted_draft_tokens,
        ),
        ("preemptions", "Sequences sent back to the queue for memory.", stats.num_preemptions),
        (
            "prefix_cache_queried_tokens",
            "Prompt tokens looked up in the prefix cache.",
            stats.num_prompt_tokens,
        ),
        (
            "prefix_cache_hit_tokens",
            "Prompt tokens whose keys and values were cached already.",
            stats.num_prompt_tokens_from_cache,
        ),
    ):
        yield CounterMetricFamily(name, help_text, value=value)


def _cache_info(limits: EngineLimits) -> Metric:
    """How the KV cache is cut up, as labels: what a balancer that knows prefixes asks for."""
    labels = {"block_size": limits.block_size, "num_blocks": num_cache_blocks(limits)}
    info = GaugeMetricFamily(
        "kv_cache_info", "Tokens of a block of the KV cache, and its blocks.", labels=list(labels)
    )
    info.add_metric([str(value) for value in labels.values()], 1.0)
    return info


def num_cache_blocks(limits: EngineLimits) -> int:
    """Blocks that the KV cache holds at most."""
    return limits.max_cached_tokens // limits.block_size


def _service_metrics(services: Services) -> Iterator[Metric]:
    status = GaugeMetricFamily("service_status", "1 for the status it is in.", labels=["status"])
    for member in ServiceStatus:
        status.add_metric([member.value], float(services.status is member))
    yield status
    is_ready = services.status is ServiceStatus.READY and services.engine_problem is None
    yield GaugeMetricFamily(
        "service_ready", "1 while it takes requests, as /readyz says.", value=float(is_ready)
    )
    if (model := services.model) is not None:
        labels = {"name": model.name, "revision": model.revision, "runtime": model.runtime}
        labels |= {"device": model.device, "dtype": model.dtype, "weights": model.weights}
        labels["tensor_parallel_size"] = str(model.tensor_parallel_size)
        info = GaugeMetricFamily("model_info", "The model served.", labels=list(labels))
        info.add_metric(list(labels.values()), 1.0)
        yield info
    if (cache := services.cache) is not None:
        yield GaugeMetricFamily(
            "response_cache_entries", "Answers in the response cache.", value=cache.num_entries
        )
        yield GaugeMetricFamily(
            "response_cache_bytes", "Memory those answers take.", value=cache.num_bytes
        )
