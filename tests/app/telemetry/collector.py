"""A collector of traces on this machine: takes OTLP over HTTP and decodes it."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_SECONDS = 60.0  # only ever spent by a test that fails


class Collector:
    """Listens until it is closed; keeps every span that comes."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.raw = b""
        self._grown = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def wait_for(self, count: int) -> dict[str, Span]:
        """So many spans by their names."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.spans) >= count, PATIENCE_SECONDS)
            return {span.name: span for span in self.spans}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        exported = ExportTraceServiceRequest.FromString(body)
        with self._grown:
            self.raw += body
            for resource in exported.resource_spans:
                self.services.add(attributes_of(resource.resource)["service.name"])
                for scope in resource.scope_spans:
                    self.spans += scope.spans
            self._grown.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector._take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def attributes_of(holder: object) -> dict[str, object]:
    """Attributes of a span or resource as plain values."""
    return {each.key: _plain(each.value) for each in holder.attributes}


def _plain(value: object) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, kind)
