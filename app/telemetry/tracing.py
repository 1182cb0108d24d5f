"""Sends a trace of each request to a collector over OTLP: what it was, and where its time went.

Spans have the names and attributes of OpenTelemetry's conventions for HTTP servers and for
generative AI; never a prompt or an answer. They are made of records when things have ended, so
nothing is traced while the engine runs, and sent in batches by a thread of the SDK. A request that
brings a `traceparent` continues that trace. Only loaded when an endpoint is set.
"""

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from weakref import WeakKeyDictionary

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.telemetry.endpoint import traces_url
from app.telemetry.journal import QUIET_ENDPOINTS
from app.telemetry.record import GenerationRecord, RequestRecord

SERVICE = "beamline"
REQUEST_PARAMETERS = ("temperature", "top_p", "top_k")

Attributes = Mapping[str, str | int | float | tuple[str, ...]]


class Tracing:
    """Observes requests and makes spans of them. Lives on the event loop."""

    def __init__(self, endpoint: str, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        named = Resource({"service.name": SERVICE, "service.version": version(SERVICE)})
        self._provider = TracerProvider(
            resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=traces_url(endpoint))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE, version(SERVICE))
        self._propagator = TraceContextTextMapPropagator()
        self._spans: WeakKeyDictionary[RequestRecord, Span] = WeakKeyDictionary()

    def request_began(self, record: RequestRecord) -> None:
        """Open the request's span: those of its generations refer to it."""
        self._spans[record] = self._tracer.start_span(
            record.method,
            context=self._propagator.extract(record.headers),
            kind=SpanKind.SERVER,
            start_time=self._wall_time(record.received_at),
            attributes={"http.request.method": record.method, "beamline.id": record.request_id},
        )

    def generation_ended(self, record: RequestRecord, generation: GenerationRecord) -> None:
        """Send the generation's span and those of its phases."""
        operation = "chat" if generation.is_chat else "text_completion"
        span = self._tracer.start_span(
            f"{operation} {generation.model}",
            context=set_span_in_context(self._spans[record]),
            start_time=self._wall_time(generation.received_at),
            attributes={"gen_ai.operation.name": operation} | dict(_attributes_of(generation)),
        )
        if generation.error is not None:
            span.set_attribute("error.type", generation.error)
            span.set_status(Status(StatusCode.ERROR))
        self._send_phases(generation, set_span_in_context(span))
        span.end(self._wall_time(generation.ended_at))

    def request_ended(self, record: RequestRecord) -> None:
        """Send the request's span; probes have none."""
        if record.endpoint in QUIET_ENDPOINTS or record.status is None or record.ended_at is None:
            return
        span = self._spans[record]
        span.update_name(f"{record.method} {record.endpoint}")
        span.set_attribute("http.route", record.endpoint or "")
        span.set_attribute("http.response.status_code", record.status)
        if record.key_name is not None:
            span.set_attribute("beamline.key", record.key_name)
        if record.error is not None:
            span.set_attribute("error.type", record.error)
        if record.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(self._wall_time(record.ended_at))

    def close(self) -> None:
        """Send what is left, and end the SDK's thread."""
        self._provider.shutdown()

    def _send_phases(self, generation: GenerationRecord, context: Context) -> None:
        """One after the other; of an answer from the cache there are none."""
        start = generation.submitted_at
        phases = {
            "queue": generation.queue_seconds,
            "prefill": generation.prefill_seconds,
            "decode": generation.decode_seconds,
        }
        for name, seconds in phases.items():
            if start is None or seconds is None:
                return
            begin, end = self._wall_time(start), self._wall_time(start + seconds)
            self._tracer.start_span(name, context=context, start_time=begin).end(end)
            start += seconds

    def _wall_time(self, moment: float) -> int:
        """A moment on the service's clock as nanoseconds of the epoch."""
        return time.time_ns() - int((self._clock() - moment) * 1e9)


def _attributes_of(generation: GenerationRecord) -> Attributes:
    asked = {
        f"gen_ai.request.{name}": value
        for name, value in generation.parameters.items()
        if name in REQUEST_PARAMETERS and isinstance(value, int | float)
    }
    num_sequences = generation.parameters.get("num_return_sequences", 1)
    counted = {"gen_ai.request.choice.count": num_sequences} if num_sequences != 1 else {}
    first = _time_to_first_token(generation)
    return {
        "gen_ai.provider.name": SERVICE,
        "gen_ai.request.model": generation.model,
        "gen_ai.response.model": generation.model,
        "gen_ai.request.max_tokens": generation.max_new_tokens,
        "gen_ai.request.seed": generation.seed,
        "gen_ai.response.finish_reasons": generation.finish_reasons,
        "gen_ai.usage.input_tokens": generation.num_prompt_tokens,
        "gen_ai.usage.output_tokens": generation.num_generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": generation.num_cached_tokens,
        "beamline.strategy": generation.strategy,
        "beamline.cache": generation.cache,
        "beamline.priority": generation.priority,
        **asked,
        **{name: value for name, value in counted.items() if isinstance(value, int)},
        **({} if first is None else {"gen_ai.response.time_to_first_chunk": first}),
    }


def _time_to_first_token(generation: GenerationRecord) -> float | None:
    if generation.submitted_at is None or generation.prefill_seconds is None:
        return None
    waited = generation.submitted_at - generation.received_at + (generation.queue_seconds or 0.0)
    return waited + generation.prefill_seconds
