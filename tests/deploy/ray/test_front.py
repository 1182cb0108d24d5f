"""The front against replicas that run the real application in this process, and that die."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from app.http.sse import KEEP_ALIVE
from deploy.ray.call import Declined, WholeAnswer
from deploy.ray.exchange import Exchange
from deploy.ray.front import Front, FrontLimits, NoReplica, ReplicaDeclined, ReplicaGone

LIMITS = FrontLimits(max_body_bytes=1000, prefix_characters=64, max_attempts=3, accept_seconds=30.0)


class MortalFleet:
    """Real exchanges with an application, each of which may be cut after so many batches.

    One that is "absent" is not there at all; any other name is that of a replica that declines,
    unless it must answer.
    """

    def __init__(self, app, deaths):
        self.app = app
        self.deaths = list(deaths)  # of each call: batches until it dies, or None
        self.calls = []
        self.names = []  # of those that answer what goes to all

    async def ask(self, call):
        self.calls.append(call)
        lifetime = self.deaths.pop(0) if self.deaths else None
        if lifetime == "absent":
            raise NoReplica("none")
        if isinstance(lifetime, str) and not call.must_answer:
            raise ReplicaDeclined(Declined(replica=lifetime, reason="draining"))
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

    async def ask_all(self, call, *, seconds):
        assert seconds > 0
        self.calls.append(call)
        return [await self._whole(call, name) for name in self.names]

    async def _whole(self, call, name):
        exchange = Exchange(self.app, call)
        start, *rest = [each async for batch in exchange.batches() for each in batch]
        body = b"".join(each.get("body", b"") for each in rest)
        return WholeAnswer(replica=name, status=start["status"], headers=[], body=body)


def build_app():
    app = FastAPI()
    app.add_api_route("/generate", echo, methods=["POST"])
    for path in ("/v1/completions", "/generate/stream"):
        app.add_api_route(path, stream, methods=["POST"])
    app.add_api_route("/v1/responses", respond, methods=["POST"])
    app.add_api_route("/v1/chat/completions", chat, methods=["POST"])
    app.add_api_route("/metrics", metrics, methods=["GET"])
    return app


async def echo(request: Request):
    return {"echo": (await request.body()).decode(), "path": request.url.path}


async def stream():
    return in_pieces("data: 0\n\n", "data: 1\n\n", "data: 2\n\n")


async def respond():
    begun = "event: response.created\ndata: {}\n\nevent: response.in_progress\ndata: {}\n\n"
    waiting = [KEEP_ALIVE] * 4
    return in_pieces(begun, *waiting, "event: response.completed\ndata: {}\n\n")


async def chat(request: Request):
    """Waits long before its first token, and is refused where it is asked again so."""
    if b"refused" in await request.body() and request.state.is_counted:
        return JSONResponse({"error": "full"}, 503)
    return in_pieces(KEEP_ALIVE, KEEP_ALIVE, "data: 1\n\n")


async def metrics(request: Request):
    registry = CollectorRegistry()
    Counter("answers", "By code.", registry=registry).inc(3, {"trace_id": "abc"})
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), media_type=content_type)


def in_pieces(*frames):
    async def sent():
        for frame in frames:
            yield frame
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    return StreamingResponse(sent(), media_type="text/event-stream")


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
    assert fleet.calls[0].body == fleet.calls[2].body
    assert fleet.calls[0].affinity_key == fleet.calls[2].affinity_key is not None


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


async def test_tgi_is_told_so_by_its_body_where_paths_are_shared():
    async with client_of("absent", "absent") as (client, _):
        tgi = await client.post("/generate", json={"inputs": "a"})
        ours = await client.post("/generate", json={"text": "a"})
    assert tgi.json()["error_type"] == "unavailable"
    assert ours.json()["error"]["type"] == "unavailable_error"


async def broken_stream(path, batches):
    async with client_of(batches, None) as (client, fleet):
        answer = await client.post(path, content=b"{}")
    assert len(fleet.calls) == 1
    return answer.text.strip().split("\n\n")


async def test_a_stream_of_ours_that_breaks_ends_with_an_error_event():
    name, _, data = (await broken_stream("/generate/stream", 1))[-1].partition("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "service_unavailable"


async def test_a_stream_of_openai_that_breaks_tells_why_and_is_done():
    *_, told, done = await broken_stream("/v1/completions", 1)
    assert json.loads(told.removeprefix("data: "))["error"]["code"] == "service_unavailable"
    assert done == "data: [DONE]"


async def test_a_response_that_breaks_ends_with_openais_event_in_its_place():
    *_, last = await broken_stream("/v1/responses", 2)
    name, _, data = last.partition("\n")
    told = json.loads(data.removeprefix("data: "))
    assert (name, told["type"], told["code"]) == ("event: error", "error", "service_unavailable")
    assert told["sequence_number"] == 2


async def test_a_stream_that_has_only_waited_is_asked_again_without_a_second_head():
    async with client_of(2, None) as (client, fleet):
        answer = await client.post("/v1/chat/completions", content=b"{}")
    assert len(fleet.calls) == 2
    frames = answer.text.strip().split("\n\n")
    assert [each for each in frames if not each.startswith(":")] == ["data: 1"]
    assert len(frames) > 3


async def test_a_stream_that_has_waited_and_is_then_refused_tells_so():
    async with client_of(2, None) as (client, fleet):
        answer = await client.post("/v1/chat/completions", content=b'{"refused": 1}')
    assert len(fleet.calls) == 2
    assert answer.status_code == 200
    *_, told, done = answer.text.strip().split("\n\n")
    assert json.loads(told.removeprefix("data: "))["error"]["code"] == "service_unavailable"
    assert done == "data: [DONE]"


async def test_what_comes_again_is_marked_as_counted_and_what_is_declined_is_not():
    async with client_of("a", 0, None) as (client, fleet):
        answer = await client.post("/generate", content=b"{}")
    assert answer.status_code == 200
    assert [each.is_repeated for each in fleet.calls] == [False, False, True]


async def test_who_declines_is_avoided_and_the_last_one_must_answer():
    async with client_of("a", "b", "a", "b") as (client, fleet):
        answer = await client.post("/generate", content=b"{}")
    assert answer.status_code == 200
    assert [sorted(each.avoided) for each in fleet.calls] == [[], ["a"], ["a", "b"], ["a", "b"]]
    assert [each.must_answer for each in fleet.calls] == [False, False, False, True]


async def test_a_body_that_is_too_long_never_leaves_the_front():
    async with client_of() as (client, fleet):
        answer = await client.post("/generate", content=b" " * 1001)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert not fleet.calls


async def test_metrics_of_no_replica_are_a_503():
    async with client_of() as (client, _):
        answer = await client.get("/metrics")
    assert answer.status_code == 503


async def test_metrics_are_merged_whatever_format_the_scraper_prefers():
    async with client_of() as (client, fleet):
        fleet.names = ["a", "b"]
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("text/plain")
    families = {each.name: each for each in text_string_to_metric_families(answer.text)}
    assert families["answers"].type == "counter"
    assert {each.labels["replica"]: each.value for each in families["answers"].samples} == {
        "a": 3.0,
        "b": 3.0,
    }


@pytest.mark.parametrize(
    ("root", "path", "sent"),
    [("", "/generate", "/generate"), ("/a", "/a/generate", "/generate"), ("/a", "/a", "/")],
)
async def test_paths_are_those_below_where_ray_mounted_us(root, path, sent):
    fleet = MortalFleet(build_app(), [])
    transport = httpx.ASGITransport(Front(fleet, LIMITS), root_path=root)
    async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
        await client.post(path, content=b"{}")
    assert fleet.calls[0].scope["path"] == sent
