"""A real server whose model two processes compute: its answers, and how it ends."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.e2e.conftest import ServerProcess, StartServer

TORCH = ("--runtime", "torch")
SHARDED = (*TORCH, "--tensor-parallel-size", "2")
BODIES = (
    {"text": "The sea is", "strategy": "greedy", "max_new_tokens": 20},
    {"text": "Beams of", "strategy": "beam", "num_beams": 3, "max_new_tokens": 12},
    {"text": "Ships", "strategy": "sample", "seed": 7, "max_new_tokens": 20},
)
LONG = {"text": "The sea is", "strategy": "greedy", "max_new_tokens": 60_000}


def other_processes(server: ServerProcess) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [each for each in children if "app.shards.member" in each.cmdline()]


def ask(client: httpx.Client, body: dict[str, object]) -> str:
    return client.post("/generate", json=body).raise_for_status().json()["generated_text"]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def begin(pool: ThreadPoolExecutor, client: httpx.Client) -> "Callable[[], httpx.Response]":
    """Start a long generation, and wait until it runs; gives what waits for its answer."""
    running = pool.submit(client.post, "/generate", json=LONG)
    while "\nrunning_requests 1.0" not in client.get("/metrics").text:
        assert not running.done(), running.result().text
    return running.result


def test_answers_equal_those_of_one_process_and_sigterm_ends_all(start: StartServer) -> None:
    sharded, whole = start(*SHARDED), start(*TORCH)
    with sharded.client() as client, whole.client() as other:
        for body in BODIES:
            assert ask(client, body) == ask(other, body)
        assert client.get("/info").json()["model"]["tensor_parallel_size"] == 2
        assert other.get("/info").json()["model"]["tensor_parallel_size"] == 1
        assert 'tensor_parallel_size="2"' in client.get("/metrics").text
    members = other_processes(sharded)
    assert len(members) == 1
    for member in members:  # a signal to the whole group must not cut a drain short
        member.send_signal(signal.SIGINT)
        member.send_signal(signal.SIGTERM)
    with sharded.client() as client:
        assert ask(client, {**BODIES[0], "cache": False})
    sharded.signal(signal.SIGTERM)
    assert sharded.wait() == 0
    assert_gone(members)


def test_a_process_that_is_killed_ends_the_service_with_the_reason(start: StartServer) -> None:
    server = start(*SHARDED)
    with server.client() as client, ThreadPoolExecutor() as pool:
        answer = begin(pool, client)
        (member,) = other_processes(server)
        member.kill()
        assert server.wait() == 1
        try:
            assert answer().status_code >= 500
        except httpx.TransportError:  # the service was gone before it had said so
            pytest.fail(f"the request got no answer\n{server.output}")
    assert "the process of shard 1 of the model has ended" in server.output


@pytest.mark.slow
def test_an_idle_service_notices_that_a_process_is_gone(start: StartServer) -> None:
    server = start(*SHARDED)
    server.ready_url()
    (member,) = other_processes(server)
    member.kill()
    assert server.wait() == 1
    assert "the process of shard 1 of the model has ended" in server.output


def test_a_service_that_is_killed_leaves_no_process_behind(start: StartServer) -> None:
    server = start(*SHARDED)
    with server.client() as client, ThreadPoolExecutor() as pool:
        answer = begin(pool, client)
        members = other_processes(server)
        server.signal(signal.SIGKILL)
        assert_gone(members)
        with pytest.raises(httpx.TransportError):
            answer()
