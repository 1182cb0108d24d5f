"""What the shared tier of the response cache tells Prometheus, read when it is scraped.

`engine_metrics.py` joins it to the rest. Services without a Redis have none of these series; those
with one have all of them from the first scrape on. How long Redis takes is in `metrics.py`.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.generation.shared_cache.breaker import BreakerState
from app.generation.shared_cache.counts import Lookup, Write
from app.generation.shared_cache.entry import Fault
from app.generation.shared_cache.tier import SharedCache


def shared_cache_metrics(shared_cache: SharedCache) -> Iterator[Metric]:
    """All of them, from one look."""
    counts, breaker = shared_cache.counts, shared_cache.breaker
    lookups = CounterMetricFamily(
        "shared_cache_lookups",
        "Answers looked for in the shared cache, by what came of it.",
        labels=["outcome"],
    )
    for lookup in Lookup:
        lookups.add_metric([lookup], counts.lookups[lookup])
    writes = CounterMetricFamily(
        "shared_cache_writes", "Answers to be stored there, by how it went.", labels=["outcome"]
    )
    for write in Write:
        writes.add_metric([write], counts.writes[write])
    corrupt = CounterMetricFamily(
        "shared_cache_corrupt", "Entries there that were not ours, by why.", labels=["reason"]
    )
    for fault in Fault:
        corrupt.add_metric([fault], counts.faults[fault])
    state = GaugeMetricFamily(
        "shared_cache_breaker_state",
        "1 for the state: closed (it is asked), open (left alone), half_open (tried again).",
        labels=["state"],
    )
    for member in BreakerState:
        state.add_metric([member], float(breaker.state is member))
    yield from (lookups, writes, corrupt, state)
    yield CounterMetricFamily(
        "shared_cache_breaker_openings",
        "Times that Redis was found not to answer and left alone.",
        value=breaker.num_opened,
    )
    yield GaugeMetricFamily(
        "shared_cache_pending_writes",
        "Answers that are still to be stored.",
        value=shared_cache.num_pending_writes,
    )
