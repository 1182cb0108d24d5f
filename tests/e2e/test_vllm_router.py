"""Two servers behind the real vllm-router: its cache-aware mode, streams, and a server that dies.

The router re-writes bodies with fields of vLLM and SGLang, and asks each server what a request's
tokens are to find out which has seen its beginning. It is a program of its own environment.
"""

import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.conftest import ServerProcess, beamline, server_environment

ROUTER = Path(__file__).parents[2] / ".venv-clients" / "router" / "bin" / "vllm-router"
TOPICS = ("harbour", "lighthouse", "tide", "anchor", "gull", "keel")
MODEL = "tiny-chat"

pytestmark = pytest.mark.skipif(not ROUTER.exists(), reason="needs `make clients`")


@pytest.fixture(scope="module")
def servers(chat_model_folder, tmp_path_factory):
    """Two servers on one model; a test may end one."""
    environment = server_environment(
        BEAMLINE_CACHE_FOLDER=str(tmp_path_factory.mktemp("cache")), OMP_NUM_THREADS="1"
    )
    options = ("--model", str(chat_model_folder), "--port", "0", "--runtime", "torch")
    started = [ServerProcess(beamline("serve", *options), environment) for _ in range(2)]
    yield started
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def url(servers):
    """The router's."""
    port, metrics_port = _free_ports(2)
    command = [str(ROUTER), "--port", str(port), "--prometheus-port", str(metrics_port)]
    command += ["--policy", "cache_aware", "--health-check-interval-secs", "1"]
    command += ["--worker-urls", *(server.ready_url() for server in servers)]
    router = ServerProcess(command, server_environment(NO_COLOR="1"))
    router.wait_for_line("Starting server on")
    yield f"http://127.0.0.1:{port}"
    router.close()


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def _free_ports(number):
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def conversation(topic, turns=0):
    messages = [{"role": "user", "content": f"Tell me all about the {topic}. " * 20}]
    for turn in range(turns):
        messages.append({"role": "assistant", "content": f"{turn} well, then. " * 10})
        messages.append({"role": "user", "content": f"And then? {turn}"})
    return messages


def ask(client, topic, turns=0, **fields):
    return client.chat.completions.create(
        model=MODEL, messages=conversation(topic, turns), max_tokens=4, seed=1, **fields
    )


def metric(server, name):
    page = httpx.get(f"{server.ready_url()}/metrics").text
    return float(re.search(rf"^{name} (\S+)$", page, re.MULTILINE)[1])


def length_of(server, topic, turns):
    body = {"messages": conversation(topic, turns)}
    return httpx.post(f"{server.ready_url()}/tokenize", json=body).json()["count"]


def test_chats_completions_and_streams_come_through_as_from_a_server(client, servers):
    direct = openai.OpenAI(base_url=f"{servers[0].ready_url()}/v1", api_key="none")
    own = {"extra_body": {"strategy": "beam", "num_beams": 2, "cache": False}}
    for fields in ({}, {"logprobs": True, "top_logprobs": 2}, own):
        assert ask(client, "sea", **fields).choices == ask(direct, "sea", **fields).choices
    streamed = ask(client, "sea", stream=True, extra_body={"cache": False})
    told = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert told == ask(direct, "sea").choices[0].message.content
    asked = {"model": MODEL, "prompt": ["The sea", "A ship"], "max_tokens": 4, "seed": 1}
    assert client.completions.create(**asked).choices == direct.completions.create(**asked).choices
    assert client.models.list().data[0].id == MODEL


def test_mistakes_come_through_in_their_shape(client):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "sea", extra_body={"ignore_eos": True})
    assert refused.value.param == "ignore_eos"


def test_requests_that_begin_alike_meet_their_cached_prefix(client, servers):
    before = [metric(server, "prefix_cache_hit_tokens_total") for server in servers]
    prompt_tokens = 0
    for turns in range(4):
        for topic in TOPICS:
            prompt_tokens += ask(client, topic, turns).usage.prompt_tokens if turns else 0
            if not turns:
                ask(client, topic)
    hits = sum(metric(each, "prefix_cache_hit_tokens_total") for each in servers) - sum(before)
    assert hits > 0.6 * prompt_tokens  # what is new of a turn is new to everybody


def test_each_conversation_stays_with_one_server(client, servers):
    """Every turn after the first finds the turn before; nowhere else it would."""
    for topic in ("mast", "rudder", "compass"):
        ask(client, topic)
        for turns in (1, 2, 3):
            answer = ask(client, topic, turns)
            before = 0.7 * length_of(servers[0], topic, turns - 1)
            assert answer.usage.prompt_tokens_details.cached_tokens >= before


def test_no_request_fails_when_a_server_is_killed_under_load(client, servers):
    """The last test of the module: the server that has most to do is gone after it."""
    asked = [metric(server, "prefix_cache_queried_tokens_total") for server in servers]
    expected = {
        topic: ask(client, topic, extra_body={"cache": False}).choices[0].message.content
        for topic in TOPICS
    }
    now = [metric(server, "prefix_cache_queried_tokens_total") for server in servers]
    victim = max(range(2), key=lambda at: now[at] - asked[at])
    load = TOPICS * 10

    def told(topic):
        return ask(client, topic, extra_body={"cache": False}).choices[0].message.content

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(told, topic) for topic in load[:30]]
        answers[3].result()
        servers[victim].signal(signal.SIGKILL)
        answers += [pool.submit(told, topic) for topic in load[30:]]
        texts = [answer.result() for answer in answers]
    assert texts == [expected[topic] for topic in load]
