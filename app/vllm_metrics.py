"""The gauges of the model-server protocol of Kubernetes' Gateway API, under vLLM's names.

Endpoint pickers, autoscalers and dashboards that were made for vLLM work with them unchanged.
`app/lifespan.py` registers the collector for `--metrics-compat vllm`; our own names stay. The
series begin when the model is loaded, since its name is their label. What vLLM counts besides is
not imitated.
"""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.engine_metrics import num_cache_blocks
from app.state import Services
from engine.messages import EngineLimits, EngineStats

ENGINE = "0"  # vLLM numbers the engines of a process; we have one


class VllmCollector(Collector):
    """Reads a service's engine. Register one on the service's registry."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not read the engine."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The gauges, from one snapshot of the engine."""
        model, worker = self._services.model, self._services.worker
        if model is not None and worker is not None:
            yield from _gauges(model.name, worker.stats, worker.limits)


def _gauges(model_name: str, stats: EngineStats, limits: EngineLimits) -> Iterator[Metric]:
    labels = {"model_name": model_name, "engine": ENGINE}
    yield _gauge(
        "vllm:num_requests_running",
        "Requests in the running batch.",
        labels,
        stats.num_running_requests,
    )
    yield _gauge(
        "vllm:num_requests_waiting", "Requests in the queue.", labels, stats.num_waiting_requests
    )
    yield _gauge(
        "vllm:kv_cache_usage_perc",
        "Share of the KV cache in use; 1 is all of it.",
        labels,
        stats.num_cached_tokens / limits.max_cached_tokens,
    )
    blocks = {"block_size": str(limits.block_size), "num_gpu_blocks": str(num_cache_blocks(limits))}
    yield _gauge(
        "vllm:cache_config_info", "How the KV cache is cut up.", {"engine": ENGINE} | blocks, 1.0
    )


def _gauge(name: str, help_text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family
