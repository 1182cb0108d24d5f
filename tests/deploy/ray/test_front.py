"""The front against replicas that run the real application in this process, and that die."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from deploy.ray.exchange import Exchange
from deploy.ray.front import Front, FrontLimits, NoReplica, ReplicaGone

LIMITS = FrontLimits(max_body_bytes=1000, prefix_characters=64, max_attempts=3, accept_seconds=30.0)


class MortalFleet:
    """Real exchanges with an application, each of which may be cut after so many batches."""

    def __init__(self, app, deaths):
        self.app = app
        self.deaths = list(deaths)  # of each call: batches until it dies, or None
        self.calls = []

    async def ask(self, call):
        self.calls.append(call)
        lifetime = self.deaths.pop(0) if self.deaths else None
        if lifetime == "absent":
            raise NoReplica("none")
        exchange = Exchange(self.app, call)
        num_batches = 0
        try:
            yield []
            async for batch in exchange.batches():
                if num_batches == lifetime:
                    raise ReplicaGone("killed")
                num_batches += 1
                yield batch
        finally:
            await exchange.close()

    async def ask_all(self, _call, *, seconds):
        assert seconds > 0
        return []


def build_app():
    app = FastAPI()

    @app.post("/generate")
    async def generate(request: Request):
        return {"echo": (await request.body()).decode(), "path": request.url.path}

    @app.post("/v1/completions")
    @app.post("/generate/stream")
    async def stream():
        async def frames():
            for number in range(3):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        return StreamingResponse(frames(), media_type="text/event-stream")

    return app


@asynccontextmanager
async def client_of(*deaths):
    fleet = MortalFleet(build_app(), deaths)
    transport = httpx.ASGITransport(Front(fleet, LIMITS))
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
        yield client, fleet


async def test_a_request_is_asked_again_until_a_replica_lives():
    async with client_of(0, 0) as (client, fleet):
        answer = await client.post("/generate", content=b'{"text": "a"}')
    assert answer.json() == {"echo": '{"text": "a"}', "path": "/generate"}
    assert len(fleet.calls) == 3
    assert fleet.calls[0] == fleet.calls[2]


async def test_it_gives_up_in_our_shape():
    async with client_of(0, 0, 0, None) as (client, fleet):
        answer = await client.post("/generate", content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert len(fleet.calls) == 3


async def test_no_replica_is_a_503_in_the_shape_of_the_api():
    async with client_of("absent", "absent") as (client, _):
        ours = await client.post("/generate", content=b"{}")
        tgi = await client.post("/generate_stream", content=b"{}")
    assert (ours.status_code, tgi.status_code) == (503, 503)
    assert ours.json()["error"]["type"] == "unavailable_error"
    assert tgi.json()["error_type"] == "unavailable"


@pytest.mark.parametrize(
    ("path", "is_named"), [("/generate/stream", True), ("/v1/completions", False)]
)
async def test_a_stream_that_has_begun_is_not_begun_again(path, is_named):
    async with client_of(1, None) as (client, fleet):
        answer = await client.post(path, content=b"{}")
    assert len(fleet.calls) == 1
    *_, last = answer.text.strip().split("\n\n")
    assert last.startswith("event: error\n") == is_named
    told = json.loads(last.rpartition("data: ")[2])
    assert told["error"]["code"] == "service_unavailable"


async def test_a_body_that_is_too_long_never_leaves_the_front():
    async with client_of() as (client, fleet):
        answer = await client.post("/generate", content=b" " * 1001)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert not fleet.calls


async def test_metrics_of_no_replica_are_a_503():
    async with client_of() as (client, _):
        answer = await client.get("/metrics")
    assert answer.status_code == 503
