"""A real server whose model two processes compute: its answers, and how it ends.

Whatever ends it, clients get an answer, the exit code tells an orchestrator whether to restart it,
and no process is left over.
"""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import Run, ServerProcess, StartServer, beamline, serve_tiny
from tests.e2e.split_models import save_model_that_fails_in

TORCH = ("--runtime", "torch")
SHARDED = (*TORCH, "--tensor-parallel-size", "2")
LONG = {"text": "The sea is", "strategy": "greedy", "max_new_tokens": 60_000}
SHORT = {"text": "The sea is", "strategy": "greedy", "max_new_tokens": 20, "cache": False}
MESSAGES = [{"role": "user", "content": "Tell me of the sea."}]
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "yz"]}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
ASKED: tuple[tuple[str, dict[str, object]], ...] = (
    ("/generate", {**SHORT, "structured_outputs": {"json": SCHEMA}}),
    ("/generate", {"text": ["A", "The sea"], "strategy": "beam", "max_new_tokens": 9}),
    (
        "/generate",
        {
            "text": "Ships",
            "max_new_tokens": 9,
            "seed": 7,
            "guidance_scale": 2,
            "negative_prompt": "night",
        },
    ),
    ("/generate", {**SHORT, "prompt_logprobs": 2, "top_logprobs": 2, "watermark": {}}),
    ("/generate", {**SHORT, "strategy": "dola", "details": {"trace": True}}),
    ("/generate", {**SHORT, "prompt_lookup_num_tokens": 4, "stop": ["zz"]}),
    ("/generate/stream", {"text": "Beams of", "strategy": "diverse_beam", "max_new_tokens": 9}),
    (
        "/v1/chat/completions",
        {"messages": MESSAGES, "max_tokens": 9, "n": 2, "seed": 3, "logprobs": True},
    ),
    (
        "/v1/chat/completions",
        {
            "messages": MESSAGES,
            "max_tokens": 40,
            "seed": 5,
            "tools": [TOOL],
            "tool_choice": "required",
        },
    ),
    ("/v1/completions", {"prompt": "A", "max_tokens": 9, "seed": 1, "stream": True}),
    ("/v1/responses", {"input": "Say hello.", "max_output_tokens": 9, "seed": 2}),
    ("/score", {"text": "The sea", "continuations": [" is wide", " was"]}),
)
SAYING = {"generated_text", "text", "content", "arguments", "finish_reason", "logprob"}
GONE = "the process of shard 1 of the model has ended"


def members(server: ServerProcess) -> list[psutil.Process]:
    """The other processes that compute the server's model."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [each for each in children if "app.shards.member" in each.cmdline()]


def first_member(server: ServerProcess) -> psutil.Process:
    """The other process of a server that is still starting."""
    while not (found := members(server)):
        assert server.process.poll() is None, server.output
    return found[0]


def ask(client: httpx.Client, body: dict[str, object]) -> str:
    return client.post("/generate", json=body).raise_for_status().json()["generated_text"]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


@contextmanager
def long_request(server: ServerProcess) -> Iterator[Callable[[], httpx.Response]]:
    """A generation that is running; gives what waits for its answer."""
    with server.client() as client, ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, "/generate", json=LONG)
        while "\nrunning_requests 1.0" not in client.get("/metrics").text:
            assert not running.done(), running.result().text
        yield running.result


def leaves(answer: object, name: str = "") -> Iterator[str | float]:
    """What an answer says, in order; no ids and times, which are new each time."""
    if isinstance(answer, dict):
        for key, value in answer.items():
            yield from leaves(value, key)
    elif isinstance(answer, list):
        for value in answer:
            yield from leaves(value, name)
    elif name in SAYING and isinstance(answer, str | float):
        yield answer


def said(answer: httpx.Response) -> list[str | float]:
    """Of a whole answer, or of all events of a stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        lines = (line.removeprefix("data:") for line in answer.text.splitlines())
        return list(leaves([json.loads(line) for line in lines if line.strip().startswith("{")]))
    return list(leaves(answer.json()))


@pytest.mark.slow
def test_every_kind_of_request_is_answered_as_by_one_process(
    run: Run, chat_model_folder: Path
) -> None:
    sharded, whole = (
        run(beamline(*serve_tiny(chat_model_folder), *options)) for options in (SHARDED, TORCH)
    )
    with sharded.client() as client, whole.client() as other:
        assert other.get("/info").json()["model"]["tensor_parallel_size"] == 1
        for path, body in ASKED:
            answers = [each.post(path, json=body).raise_for_status() for each in (client, other)]
            ours, theirs = map(said, answers)
            assert [each for each in ours if isinstance(each, str)] == [
                each for each in theirs if isinstance(each, str)
            ]
            numbers = [[each for each in one if isinstance(each, float)] for one in (ours, theirs)]
            assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)
            assert ours, path


def test_sigterm_finishes_a_stream_and_ends_all(start: StartServer) -> None:
    server = start(*SHARDED, "--grace-seconds", "100")
    body = LONG | {"max_new_tokens": 600}
    with server.client() as client, client.stream("POST", "/generate/stream", json=body) as stream:
        lines = stream.iter_lines()
        next(lines)
        others = members(server)
        assert len(others) == 1
        assert client.get("/info").json()["model"]["tensor_parallel_size"] == 2
        assert 'tensor_parallel_size="2"' in client.get("/metrics").text
        for other in others:  # a signal to every process must not cut a drain short
            other.send_signal(signal.SIGINT)
            other.send_signal(signal.SIGTERM)
        server.signal(signal.SIGTERM)
        *_, last = (line for line in lines if line.startswith("data:"))
    assert '"finish_reason":"length"' in last.replace(" ", "")
    assert server.wait() == 0
    assert_gone(others)
    assert "Traceback" not in server.output


def test_a_process_that_is_killed_ends_the_service_with_the_reason(start: StartServer) -> None:
    server = start(*SHARDED)
    with long_request(server) as answer:
        first_member(server).kill()
        assert server.wait() == 1
        try:
            assert answer().status_code >= 500
        except httpx.TransportError:  # the service was gone before it had said so
            pytest.fail(f"the request got no answer\n{server.output}")
    assert GONE in server.output


def test_a_port_in_use_ends_it_before_anything_is_started(start: StartServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start(*SHARDED, "--port", str(taken.getsockname()[1]))
        assert server.wait() == 1
    assert "in use" in server.output
    assert "Traceback" not in server.output


@pytest.mark.slow
def test_an_idle_service_notices_that_a_process_is_gone(start: StartServer) -> None:
    server = start(*SHARDED)
    server.ready_url()
    first_member(server).kill()
    assert server.wait() == 1
    assert GONE in server.output


@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_with_an_answer(start: StartServer) -> None:
    server = start(*SHARDED, "--stall-seconds", "5")
    with long_request(server) as answer, server.client() as client:
        other = first_member(server)
        other.send_signal(signal.SIGSTOP)
        response = answer()
        assert response.status_code == 503
        assert "sign of life" in response.text
        with pytest.raises(httpx.TransportError):  # it takes nothing more
            client.post("/generate", json=SHORT)
    assert server.wait() == 1
    assert_gone([other])


@pytest.mark.slow
def test_a_hanging_process_does_not_hold_up_a_stop(start: StartServer) -> None:
    server = start(*SHARDED, "--grace-seconds", "0.2")
    with long_request(server) as answer:
        other = first_member(server)
        other.send_signal(signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        assert answer().status_code == 503
    assert server.wait() == 0
    assert_gone([other])


@pytest.mark.slow
def test_a_service_that_is_killed_leaves_no_process_behind(start: StartServer) -> None:
    server = start(*SHARDED)
    with long_request(server) as answer:
        others = members(server)
        server.signal(signal.SIGKILL)
        assert_gone(others)
        with pytest.raises(httpx.TransportError):
            answer()


@pytest.mark.slow
def test_a_process_that_cannot_load_its_shard_ends_the_start(run: Run, tmp_path: Path) -> None:
    folder = save_model_that_fails_in("1", tmp_path / "model")
    server = run(beamline(*serve_tiny(folder), "--trust-remote-code", *SHARDED))
    assert server.wait() == 1
    assert "shard 1 of the model failed" in server.output
    assert "this process has no memory for it" in server.output


@pytest.mark.slow
def test_a_serving_process_that_cannot_load_its_shard_leaves_none_behind(
    run: Run, tmp_path: Path
) -> None:
    folder = save_model_that_fails_in("0", tmp_path / "model")
    server = run(beamline(*serve_tiny(folder), "--trust-remote-code", *SHARDED))
    other = first_member(server)
    assert server.wait() == 1
    assert "this process has no memory for it" in server.output
    assert_gone([other])


@pytest.mark.slow
def test_a_ctrl_c_during_the_start_ends_all_without_a_traceback(start: StartServer) -> None:
    server = start(*SHARDED)
    other = first_member(server)
    os.killpg(server.process.pid, signal.SIGINT)  # as a terminal sends it
    assert server.wait() == 0
    assert_gone([other])
    assert "Traceback" not in server.output
