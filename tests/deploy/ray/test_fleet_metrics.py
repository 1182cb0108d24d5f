import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from deploy.ray.fleet_metrics import merge_metrics


def page(waiting):
    registry = CollectorRegistry()
    Gauge("waiting_requests", "In the queue.", registry=registry).set(waiting)
    Counter("answers", "By code.", ["code"], registry=registry).labels(code='4"0\n4').inc(3)
    Histogram("seconds", "Time.", buckets=(0.1, 1.0), registry=registry).observe(0.5)
    return generate_latest(registry).decode()


def test_each_series_of_each_replica_comes_once_with_its_name():
    pages = {"a": page(1), "b": page(2)}
    merged = merge_metrics(pages).decode()
    seen = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(merged)
        for sample in family.samples
    }
    expected = {
        (sample.name, *sorted({"replica": replica, **sample.labels}.items())): sample.value
        for replica, text in pages.items()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert seen == expected
    assert len(re.findall("# TYPE waiting_requests gauge", merged)) == 1


def test_no_replica_is_an_empty_page():
    assert merge_metrics({}) == b""


def test_a_page_that_is_none_is_refused():
    with pytest.raises(ValueError, match="could not convert"):
        merge_metrics({"a": "bad{ 1"})
