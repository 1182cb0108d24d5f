"""Traces as a real collector gets them: one for each request, with where its time went."""

import asyncio
import itertools

import pytest

from app.telemetry import endpoint
from app.telemetry.endpoint import TracingUnavailable, check_tracing, traces_url
from app.telemetry.tracing import Tracing
from tests.app.telemetry.collector import Collector, attributes_of

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
BODY = {"text": "the quick xyzzy", "strategy": "sample", "seed": 3, "max_new_tokens": 4}


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
async def traced(service, collector):
    """The service with traces on, and what was sent when all of it is."""
    tracing = Tracing(collector.url, clock=service.parts.clock)
    service.parts.observers = [tracing]

    async def spans(count):
        await asyncio.to_thread(tracing._provider.force_flush)
        return await asyncio.to_thread(collector.wait_for, count)

    yield service, spans
    await asyncio.to_thread(tracing.close)


async def test_a_request_is_a_trace_of_its_phases(traced, collector):
    service, spans = traced
    headers = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "X-Request-Id": "mine"}
    await service.client.post("/generate", json=BODY | {"temperature": 0.5}, headers=headers)
    found = await spans(5)
    request, generation = found["POST /generate"], found["text_completion tiny"]
    assert {span.trace_id.hex() for span in found.values()} == {TRACE_ID}
    assert request.parent_span_id.hex() == PARENT_ID
    assert generation.parent_span_id == request.span_id
    phases = [found[name] for name in ("queue", "prefill", "decode")]
    assert {span.parent_span_id for span in phases} == {generation.span_id}
    moments = [request.start_time_unix_nano, generation.start_time_unix_nano]
    moments += [phases[0].start_time_unix_nano, *(span.end_time_unix_nano for span in phases)]
    moments += [generation.end_time_unix_nano, request.end_time_unix_nano]
    slack = 2_000_000  # moments of two clocks are put together
    assert all(a <= b + slack for a, b in itertools.pairwise(moments))
    of_request, of_generation = attributes_of(request), attributes_of(generation)
    assert of_request["http.route"] == "/generate"
    assert of_request["http.response.status_code"] == 200
    assert of_request["beamline.id"] == "mine"
    expected = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "beamline",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 4,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 3,
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.output_tokens": 4,
        "beamline.strategy": "sample",
        "beamline.cache": "miss",
    }
    assert expected.items() <= of_generation.items()
    assert of_generation["gen_ai.usage.input_tokens"] > 1
    assert of_generation["gen_ai.response.time_to_first_chunk"] > 0
    assert collector.services == {"beamline"}
    assert b"xyzzy" not in collector.raw


async def test_a_cached_answer_has_no_phases_and_probes_no_trace(traced, collector):
    service, spans = traced
    await service.post(**BODY)
    await service.client.get("/livez")
    await service.post(**BODY)
    await spans(7)
    names = sorted(span.name for span in collector.spans)
    assert names == sorted(
        ["POST /generate", "text_completion tiny"] * 2 + ["queue", "prefill", "decode"]
    )


async def test_failures_are_marked(traced):
    service, spans = traced
    await service.post(**BODY | {"max_new_tokens": 0})
    service.runner.failure = RuntimeError("device lost")
    await service.post("/generate/stream", **BODY)
    service.runner.failure = None
    found = await spans(3)
    assert attributes_of(found["POST /generate"])["http.response.status_code"] == 422
    assert attributes_of(found["text_completion tiny"])["error.type"] == "step_failed"
    assert found["POST /generate/stream"].status.code == found["text_completion tiny"].status.code
    assert found["POST /generate"].status.code != found["POST /generate/stream"].status.code


async def test_a_job_ends_in_the_trace_of_the_request_that_began_it(traced):
    service, spans = traced
    await service.post("/generate_async", **BODY)
    await service.until(service.is_idle)
    found = await spans(5)
    request, generation = found["POST /generate_async"], found["text_completion tiny"]
    assert generation.parent_span_id == request.span_id


def test_the_url_of_traces_is_given_whole_or_by_its_base() -> None:
    assert traces_url("http://host:4318") == "http://host:4318/v1/traces"
    assert traces_url("http://host:4318/otlp/") == "http://host:4318/otlp/v1/traces"
    assert traces_url("http://host/v1/traces") == "http://host/v1/traces"


@pytest.mark.parametrize("error", [None, ModuleNotFoundError])
def test_without_the_packages_the_remedy_is_told(monkeypatch, error) -> None:
    def find_nothing(_: str) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(endpoint, "find_spec", find_nothing)
    check_tracing(None)
    with pytest.raises(TracingUnavailable, match=r"pip install 'beamline\[otel\]'"):
        check_tracing("http://127.0.0.1:4318")
