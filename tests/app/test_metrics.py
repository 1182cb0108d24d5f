"""What is counted shows under its documented name, with bounded labels."""

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as `name{label="value"}`, read back from the text format."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {
        sample.name
        + "".join(f"|{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_answered_request_is_counted_by_template_method_and_status():
    metrics = Metrics()
    metrics.request_started()
    metrics.request_ended(endpoint="/generate", method="POST", status=200)
    assert samples(metrics)["api_requests_total|endpoint=/generate|method=POST|status=200"] == 1


def test_invented_methods_share_one_label():
    metrics = Metrics()
    for method in ("HACK", "BREW"):
        metrics.request_started()
        metrics.request_ended(endpoint="unmatched", method=method, status=405)
    assert samples(metrics)["api_requests_total|endpoint=unmatched|method=other|status=405"] == 2


def test_in_flight_gauge_returns_to_zero():
    metrics = Metrics()
    metrics.request_started()
    assert samples(metrics)["api_requests_in_flight"] == 1
    metrics.request_ended(endpoint="/generate", method="POST", status=500)
    assert samples(metrics)["api_requests_in_flight"] == 0


def test_duration_falls_into_its_buckets():
    metrics = Metrics()
    metrics.request_timed(endpoint="/generate", seconds=0.3)
    found = samples(metrics)
    bucket = "api_request_duration_seconds_bucket|endpoint=/generate|le="
    assert found[bucket + "0.25"] == 0
    assert found[bucket + "0.5"] == 1


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("first_token", "time_to_first_token_seconds"),
        ("inter_token", "inter_token_latency_seconds"),
        ("queue_time", "queue_time_seconds"),
        ("inference", "model_inference_duration_seconds"),
        ("loop_lag", "event_loop_lag_seconds"),
    ],
)
def test_times_are_summed_under_their_names(method, name):
    metrics = Metrics()
    getattr(metrics, method)(0.25)
    found = samples(metrics)
    assert (found[name + "_sum"], found[name + "_count"]) == (0.25, 1)


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        ("hit", "response_cache_hits_total"),
        ("miss", "response_cache_misses_total"),
        ("bypass", "response_cache_bypasses_total"),
    ],
)
def test_cache_outcomes_have_a_counter_each(outcome, name):
    metrics = Metrics()
    metrics.cache_lookup(outcome)
    assert samples(metrics)[name] == 1


def test_tokens_endings_refusals_and_cancellations_are_counted():
    metrics = Metrics()
    metrics.tokens(prompt=7, generated=5)
    metrics.finished("beam", "eos")
    metrics.rejected("queue_full")
    metrics.cancelled()
    found = samples(metrics)
    assert found["prompt_tokens_total"] == 7
    assert found["generated_tokens_total"] == 5
    assert found["generations_finished_total|reason=eos|strategy=beam"] == 1
    assert found["requests_rejected_total|reason=queue_full"] == 1
    assert found["cancellations_total"] == 1


def test_answers_are_counted_and_timed_by_strategy():
    metrics = Metrics()
    metrics.answered("beam", seconds=0.3, num_tokens=5)
    metrics.answered("greedy", seconds=3.0, num_tokens=7)
    found = samples(metrics)
    assert found["strategy_generated_tokens_total|strategy=beam"] == 5
    assert found["strategy_generated_tokens_total|strategy=greedy"] == 7
    bucket = "strategy_generation_duration_seconds_bucket|le={}|strategy=beam"
    assert (found[bucket.format("0.25")], found[bucket.format("0.5")]) == (0, 1)


def test_two_services_never_share_a_counter():
    first, second = Metrics(), Metrics()
    first.cancelled()
    assert samples(second)["cancellations_total"] == 0


def test_process_metrics_are_there():
    assert samples(Metrics())["process_resident_memory_bytes"] > 0
