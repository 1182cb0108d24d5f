"""How a server ends: draining on the first signal, at once on the second, never with a mess."""

import json
import signal
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

LONG = {"text": "The sea", "strategy": "sample", "seed": 3, "max_new_tokens": 60_000}


def stream_data(response: httpx.Response) -> Iterator[dict]:
    for line in response.iter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def wait_until_unready(client: httpx.Client) -> httpx.Response:
    pause = threading.Event()
    while (response := client.get("/readyz")).status_code != 503:
        pause.wait(0.02)
    return response


def test_sigterm_lets_a_running_stream_finish_and_refuses_new_work(start):
    server = start("--grace-seconds", "100")
    body = LONG | {"max_new_tokens": 1000}
    with server.client() as client, client.stream("POST", "/generate/stream", json=body) as stream:
        data = stream_data(stream)
        next(data)
        server.signal(signal.SIGTERM)
        probe = wait_until_unready(client)
        assert "draining" in probe.json()["reason"]
        assert probe.headers["connection"] == "close"
        refused = client.post("/generate", json=LONG)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["connection"] == "close"
        assert client.get("/livez").status_code == 200
        *_, last = data
    assert "error" not in last, last
    assert last["output_length"] - last["input_length"] == 1000
    assert server.wait() == 0
    assert "Traceback" not in server.output


def test_sigterm_lets_a_plain_request_finish(start):
    server = start("--grace-seconds", "100")
    answers = []
    with server.client() as client:

        def ask() -> None:
            answers.append(client.post("/generate", json=LONG | {"max_new_tokens": 800}))

        asking = threading.Thread(target=ask)
        asking.start()
        pause = threading.Event()
        while "\nrunning_requests 1.0" not in client.get("/metrics").text:
            pause.wait(0.01)
        server.signal(signal.SIGTERM)
        asking.join()
    assert answers[0].status_code == 200
    assert server.wait() == 0


def test_when_the_grace_time_is_over_streams_end_with_an_error_event(start):
    server = start("--grace-seconds", "0.2")
    with server.client() as client, client.stream("POST", "/generate/stream", json=LONG) as stream:
        data = stream_data(stream)
        next(data)
        server.signal(signal.SIGTERM)
        *_, last = data
    assert last["error"]["code"] == "service_unavailable"
    assert server.wait() == 0
    assert "Traceback" not in server.output


def test_when_the_grace_time_is_over_plain_requests_get_a_503(start):
    server = start("--grace-seconds", "0.2")
    answers = []
    with server.client() as client:
        asking = threading.Thread(
            target=lambda: answers.append(client.post("/generate", json=LONG))
        )
        asking.start()
        pause = threading.Event()
        while "\nrunning_requests 1.0" not in client.get("/metrics").text:
            pause.wait(0.01)
        server.signal(signal.SIGTERM)
        asking.join()
    assert answers[0].status_code == 503
    assert server.wait() == 0


def test_sigterm_lets_a_job_finish(start):
    server = start("--grace-seconds", "100")
    with server.client() as client:
        accepted = client.post("/generate_async", json=LONG | {"max_new_tokens": 1000})
        assert accepted.status_code == 202
        location = accepted.headers["location"]
        server.signal(signal.SIGTERM)
        wait_until_unready(client)
        assert client.get(location).json()["status"] in {"queued", "running", "succeeded"}
    assert server.wait() == 0
    assert "Traceback" not in server.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_ends_cleanly_on_a_signal(start, number):
    server = start()
    server.ready_url()
    server.signal(number)
    assert server.wait() == 0
    assert "Traceback" not in server.output


def test_second_signal_ends_at_once_with_the_signals_code(start):
    server = start("--grace-seconds", "1000")
    with server.client() as client, client.stream("POST", "/generate/stream", json=LONG) as stream:
        data = stream_data(stream)  # kept: letting go of it would hang up
        next(data)
        server.signal(signal.SIGTERM)
        wait_until_unready(client)
        server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
    assert "Traceback" not in server.output


def test_port_is_free_again_after_the_end(start):
    server = start()
    url = httpx.URL(server.ready_url())
    server.signal(signal.SIGTERM)
    server.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.host, url.port))
