"""A service that a test drives: it can hold the engine still and hang up on the service."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager

import httpx


class HeldRunner:
    """A runner that a test can stop before its next model call."""

    def __init__(self, runner):
        self._runner = runner
        self.may_run = threading.Event()
        self.may_run.set()
        self.is_held = threading.Event()  # a call has come while held
        self.num_calls = 0
        self.num_calls_to_hold = None  # how many more calls go through before one is held
        self.failure = None

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def forward(self, plan):
        self.num_calls += 1
        if self.num_calls_to_hold == 0:
            self.num_calls_to_hold = None
            self.may_run.clear()
        elif self.num_calls_to_hold is not None:
            self.num_calls_to_hold -= 1
        if not self.may_run.is_set():
            self.is_held.set()
        self.may_run.wait()
        if self.failure is not None:
            raise self.failure
        return self._runner.forward(plan)


class Service:
    """An application with a ready engine, and ways to look and reach into it."""

    def __init__(self, app, runner, worker):
        self.app = app
        self.runner = runner
        self.worker = worker
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://service"
        )

    @property
    def parts(self):
        return self.app.state.services

    @property
    def generator(self):
        return self.parts.generator

    def metric(self, name, **labels):
        """A counter's value; 0 if nothing was counted."""
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0

    def hold(self, *, after=0):
        """Let the idle engine stop at its next step, or `after` more."""
        self.runner.is_held.clear()
        self.runner.num_calls_to_hold = after

    async def held(self):
        """Wait until it has stopped there."""
        await asyncio.to_thread(self.runner.is_held.wait)

    def release(self):
        self.runner.num_calls_to_hold = None
        self.runner.may_run.set()

    async def post(self, path="/generate", **body):
        return await self.client.post(path, json=body)

    async def generate(self, **body):
        response = await self.post(**body)
        assert response.status_code == 200, response.text
        return response.json()

    async def stream(self, **body):
        """All events of a stream, as (name, data)."""
        response = await self.post("/generate/stream", **body)
        assert response.status_code == 200, response.text
        return parse_events(response.text)

    async def until(self, condition):
        """Let the service run until something is so; the test's timeout ends a vain wait."""
        while not condition():  # noqa: ASYNC110  (what the engine's thread does can only be polled)
            await asyncio.sleep(0.001)

    def is_idle(self):
        stats = self.worker.stats
        return (
            self.generator.num_in_flight == 0
            and stats.num_running_sequences == stats.num_waiting_requests == 0
        )

    @asynccontextmanager
    async def call(self, path, body, *, secret=None):
        """A request whose client reads and hangs up when the test says so."""
        call = OpenCall(self.app, path, body, secret)
        try:
            yield call
        finally:
            call.hang_up()
            await call.task


class OpenCall:
    """One ASGI request, driven by hand."""

    def __init__(self, app, path, body, secret=None):
        key = [] if secret is None else [(b"authorization", f"Bearer {secret}".encode())]
        self._body = json.dumps(body).encode()
        self._has_sent_body = False
        self._gone = asyncio.Event()
        self.sent = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), *key],
            "server": ("service", 80),
            "client": ("client", 1),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    @property
    def text(self):
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    def hang_up(self):
        self._gone.set()

    async def _receive(self):
        if not self._has_sent_body:
            self._has_sent_body = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.sent.append(message)


def stop_within(text):
    """A stop string that a generated text holds, not at its beginning."""
    return next(part for part in text[8:].split("\ufffd") if len(part) > 1)[:2]


def parse_events(text):
    events = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            name, data = lines
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events
