"""Servers behind the real vllm-router that die, end on purpose, and come back.

Each test leaves two healthy servers behind. A start takes seconds, so all of it is slow.
"""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.routed import (
    MODEL,
    ROUTER,
    TOPICS,
    WITH_KEY,
    Fleet,
    ask,
    client_of,
    conversation,
    routed,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROUTER.exists(), reason="needs `make clients`"),
]


@pytest.fixture(scope="module")
def fleet(chat_model_folder, tmp_path_factory):
    """They compute one text at a time, so that others wait."""
    options = ("--max-rows", "1", "--grace-seconds", "200")
    fleet = Fleet(chat_model_folder, tmp_path_factory.mktemp("cache"), *options)
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def url(fleet):
    with routed(fleet, "--policy", "round_robin") as url:
        yield url


def long_chat(**fields):
    body = {"model": MODEL, "messages": conversation("sea"), "temperature": 0, "cache": False}
    return body | fields


def wait_until(url, path, status):
    pause = threading.Event()
    while httpx.get(f"{url}{path}").status_code != status:
        pause.wait(0.05)


def busy_server(fleet):
    """Which of them computes something."""
    while not any(running := fleet.metric("running_requests")):
        pass
    return running.index(max(running))


def assert_both_are_asked(fleet, url):
    before = fleet.metric("prefix_cache_queried_tokens_total")
    for topic in TOPICS:
        ask(client_of(url), topic, extra_body={"cache": False})
    now = fleet.metric("prefix_cache_queried_tokens_total")
    assert all(after > then for after, then in zip(now, before, strict=True))


def test_a_stream_is_cut_when_its_server_dies_and_a_new_server_is_asked_again(fleet, url):
    body = long_chat(max_tokens=30_000, stream=True)
    chats = f"{url}/v1/chat/completions"
    with httpx.stream("POST", chats, json=body, headers=WITH_KEY, timeout=60) as stream:
        assert stream.status_code == 200
        lines = stream.iter_lines()
        next(lines)
        victim = busy_server(fleet)
        fleet.servers[victim].signal(signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            list(lines)
    wait_until(url, "/health", 503)  # one that is gone makes the whole unhealthy
    assert httpx.get(f"{url}/readiness").status_code == 200
    for topic in TOPICS:
        ask(client_of(url), topic)
    fleet.start_again(victim)
    wait_until(url, "/health", 200)
    assert_both_are_asked(fleet, url)


def test_a_server_that_ends_on_purpose_answers_what_it_has_taken(fleet, url):
    """Those that run and those that wait; new ones go to the other."""
    chats = f"{url}/v1/chat/completions"
    body = long_chat(max_tokens=300)
    with ThreadPoolExecutor(6) as pool, httpx.Client(headers=WITH_KEY, timeout=120) as client:
        taken = [pool.submit(client.post, chats, json=body) for _ in range(6)]
        while not all(waiting >= 1 for waiting in fleet.metric("waiting_requests")):
            assert not all(each.done() for each in taken)
        ending = fleet.servers[0]
        ending.signal(signal.SIGTERM)
        ending.wait_for_line("draining 3 generations")
        later = [client.post(chats, json=long_chat(max_tokens=2)) for _ in range(4)]
        assert [each.result().status_code for each in taken] == [200] * 6
        assert [each.status_code for each in later] == [200] * 4
    assert ending.wait() == 0
    assert "grace time is over" not in ending.output  # so it was no other server that answered
    fleet.start_again(0)
    wait_until(url, "/health", 200)
    assert_both_are_asked(fleet, url)
