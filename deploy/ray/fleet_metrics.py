"""The metrics of all replicas as one page: each series with a label that names its replica.

Prometheus reaches fronts only, so a front asks every replica and merges what they say. Sums over
replicas are the query's to make.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LABEL = "replica"


def merge_metrics(pages: Mapping[str, str]) -> bytes:
    """One page in Prometheus' text format of those of the replicas, by their name."""
    registry = CollectorRegistry()
    registry.register(_Pages(pages))
    return generate_latest(registry)


class _Pages(Collector):
    """The families of several pages, each once."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self._pages = pages

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for replica, page in sorted(self._pages.items()):
            for family in text_string_to_metric_families(page):
                merged = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for name, labels, value, *_ in family.samples:
                    merged.add_sample(name, {LABEL: replica, **labels}, value)
        yield from families.values()
