"""The client against a real server that streams well, badly, in pieces, or not at all."""

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.load.arrivals import run_closed_loop, run_open_loop
from benchmarks.load.target import BeamlineTarget, OpenAITarget
from benchmarks.load.workload import PromptRequest

REQUEST = PromptRequest(text="Hello", max_new_tokens=3)


def frame(content, event=None):
    name = f"event: {event}\n" if event else ""
    return (
        f"{name}data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()
    )


def completion(text):
    return {"choices": [{"text": text}]}


GOOD = b"".join([
    frame(completion("é")), frame(completion(" b")), b": a comment\n\n", frame(completion("")),
    frame({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}), frame("[DONE]"),
])  # fmt: skip


class Streaming:
    """A server that answers every request with the same bytes, in pieces."""

    def __init__(self):
        self.pieces, self.status, self.is_dropped = [], 200, False
        self.bodies, self.running, self.most_running = [], 0, 0
        self.keys = []

    async def answer(self, request):
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0.005)
        self.running -= 1
        if self.is_dropped:
            request.transport.abort()
        return response


@pytest.fixture
def streaming():
    return Streaming()


@pytest.fixture
async def url(streaming):
    app = web.Application()
    app.router.add_post("/{path:.*}", streaming.answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def ask_once(target):
    result = await run_closed_loop(target, [REQUEST], concurrency=1)
    [record] = result.records
    return record


async def test_an_openai_stream_is_read_to_its_end(streaming, url):
    streaming.pieces = [GOOD]
    record = await ask_once(OpenAITarget(url, "m", {"temperature": 0}))
    assert record.error is None
    assert (record.text, record.num_prompt_tokens, record.num_new_tokens) == ("é b", 5, 4)
    assert len(record.token_times) == 2
    [body] = streaming.bodies
    assert body["prompt"] == "Hello"
    assert (body["max_tokens"], body["temperature"], body["stream"]) == (3, 0, True)


@pytest.mark.parametrize("kind", [BeamlineTarget, OpenAITarget])
async def test_a_key_goes_with_each_request_and_into_no_message(streaming, url, kind):
    streaming.pieces = [GOOD]
    target = kind(url, api_key="sk-a-secret")
    await ask_once(target)
    await ask_once(kind(url))
    assert streaming.keys == ["Bearer sk-a-secret", None]
    assert "sk-a-secret" not in repr(target)


async def test_bytes_may_be_cut_anywhere(streaming, url):
    streaming.pieces = [GOOD[at : at + 7] for at in range(0, len(GOOD), 7)]
    record = await ask_once(OpenAITarget(url))
    assert (record.error, record.text) == (None, "é b")


async def test_chat_is_asked_in_messages(streaming, url):
    streaming.pieces = [frame({"choices": [{"delta": {"content": "Hi"}}]}), frame("[DONE]")]
    record = await ask_once(OpenAITarget(url, is_chat=True))
    assert (record.error, record.text, record.num_new_tokens) == (None, "Hi", 1)
    assert streaming.bodies[0]["messages"] == [{"role": "user", "content": "Hello"}]


async def test_our_stream_counts_the_tokens_of_all_sequences(streaming, url):
    sequences = [{"output_length": 6}, {"output_length": 7}]
    streaming.pieces = [
        frame({"index": 0, "text": "ab", "token_ids": [1, 2]}, "token"),
        frame({"input_length": 4, "output_length": 6, "sequences": sequences}, "done"),
    ]
    record = await ask_once(BeamlineTarget(url, {"strategy": "beam"}))
    assert (record.num_prompt_tokens, record.num_new_tokens) == (4, 5)
    assert len(record.token_times) == 2
    assert streaming.bodies[0]["strategy"] == "beam"
    assert streaming.bodies[0]["cache"] is False


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([frame({"error": {"message": "queue is full"}}, "error")], "queue is full"),
        ([frame("no json")], "no JSON object"),
        ([], "before the answer did"),
        ([frame({"input_length": 1, "output_length": 1}, "done")], "without a token"),
        ([frame({"index": 0, "text": "a", "token_ids": [1]}, "token")], "before the answer did"),
        ([b"data: \xff\n\n"], "UnicodeDecodeError"),
        ([frame({"index": 0}, "token")], "KeyError"),
    ],
)
async def test_wrong_answers_are_failures_with_their_reason(streaming, url, pieces, words):
    streaming.pieces = pieces
    record = await ask_once(BeamlineTarget(url))
    assert words in record.error


async def test_a_refusal_is_a_failure_with_its_status(streaming, url):
    streaming.status, streaming.pieces = 422, [b'{"error": "text is missing"}']
    record = await ask_once(BeamlineTarget(url))
    assert record.error.startswith("HTTP 422")
    assert "text is missing" in record.error


async def test_a_connection_that_breaks_is_a_failure(streaming, url):
    streaming.pieces, streaming.is_dropped = [frame(completion("a"))], True
    record = await ask_once(OpenAITarget(url))
    assert "Error" in record.error


async def test_a_server_that_is_not_there_is_a_failure():
    record = await ask_once(OpenAITarget("http://127.0.0.1:9"))
    assert "Connect" in record.error


async def test_an_answer_that_takes_too_long_is_a_failure(streaming, url):
    streaming.pieces = [b": still thinking\n\n"] * 100
    result = await run_closed_loop(
        OpenAITarget(url), [REQUEST], concurrency=1, timeout_seconds=0.05
    )
    assert result.errors == {"no answer in time": 1}


async def test_a_closed_loop_keeps_so_many_requests_running_and_no_more(streaming, url):
    streaming.pieces = [GOOD, b"\n"]
    done = []
    result = await run_closed_loop(
        OpenAITarget(url), [REQUEST] * 12, concurrency=3, on_done=lambda: done.append(1)
    )
    assert streaming.most_running == 3
    assert len(result.answered) == len(done) == 12


async def test_a_closed_loop_begins_nothing_after_its_time(streaming, url):
    streaming.pieces = [GOOD]
    result = await run_closed_loop(OpenAITarget(url), [REQUEST] * 50, concurrency=1, seconds=0.0)
    assert result.records == []


async def test_an_open_loop_does_not_wait_for_answers(streaming, url):
    streaming.pieces = [GOOD, *[b"\n"] * 20]
    result = await run_open_loop(OpenAITarget(url), [REQUEST] * 5, moments=[0.0] * 5)
    assert streaming.most_running == 5
    assert len(result.answered) == 5
