"""Real Ray, two replicas, real requests: what a client and an operator see of it."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import openai
import pytest

pytestmark = pytest.mark.slow  # a cluster takes most of a minute to start

PROMPT = "The sea is wide and the ships are small."
BODY = {"text": PROMPT, "max_new_tokens": 6, "seed": 3, "cache": False}
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def url(ray_service):
    return ray_service.ready_url()


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=120.0) as client:
        yield client


def metric_by_replica(client, name):
    pattern = rf'^{name}{{replica="(\w+)"}} (\S+)$'
    page = client.get("/metrics").text
    return {name: float(value) for name, value in re.findall(pattern, page, re.MULTILINE)}


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"


def test_both_replicas_give_the_same_tokens_for_the_same_seed(client):
    replicas = metric_by_replica(client, "waiting_requests")
    assert len(replicas) == 2
    answers = [
        client.post("/generate", json=BODY, headers={"x-replica": each}) for each in replicas
    ]
    assert [each.headers["x-replica"] for each in answers] == list(replicas)
    assert answers[0].json() == answers[1].json()
    assert len(answers[0].headers.get_list("x-request-id")) == 1


def test_openai_client_chats_and_streams(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    ask = partial(
        client.chat.completions.create,
        model="tiny-chat",
        messages=[{"role": "user", "content": "Sail."}],
        max_tokens=8,
        seed=1,
        extra_body={"cache": False},
    )
    whole = ask().choices[0].message.content
    chunks = list(ask(stream=True))
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == whole
    assert len(chunks) > 4


def test_mistakes_come_back_in_the_shape_of_the_api(client):
    ours = client.post("/generate", json=BODY | {"temprature": 1})
    theirs = client.post("/v1/completions", json={"prompt": "a", "max_tokns": 1})
    unknown = client.post("/generate", json=BODY, headers={"x-replica": "nobody"})
    assert (ours.status_code, ours.json()["error"]["param"]) == (422, "temprature")
    assert (theirs.status_code, theirs.json()["error"]["param"]) == (400, "max_tokns")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")


def test_a_full_queue_refuses_in_our_shape_and_says_when_to_retry(client):
    slow = BODY | {"max_new_tokens": 60, "seed": None, "strategy": "sample"}
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: client.post("/generate", json=slow), range(100)))
    refused = [each for each in answers if each.status_code != 200]
    assert refused
    assert len(refused) < len(answers)
    for answer in refused:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1


def test_a_conversation_meets_its_cached_prefix(client):
    before = metric_by_replica(client, "prefix_cache_hit_tokens_total")
    messages = [{"role": "user", "content": "Tell me of the harbour at night. " * 20}]
    replicas = set()
    for turn in range(4):
        answer = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 4})
        replicas.add(answer.headers["x-replica"])
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": f"{turn}"}]
        messages[-2].pop("refusal", None)
    (home,) = replicas
    after = metric_by_replica(client, "prefix_cache_hit_tokens_total")
    gained = {name: after[name] - before[name] for name in after}
    assert gained.pop(home) > 1000
    assert list(gained.values()) == [0.0]


def test_sessions_spread_over_the_replicas_and_keep_theirs(client):
    homes = {}
    for session in [f"session {number}" for number in range(12)] * 2:
        answer = client.post("/generate", json=BODY, headers={"x-session-id": session})
        homes.setdefault(session, set()).add(answer.headers["x-replica"])
    assert all(len(each) == 1 for each in homes.values())
    assert len(set().union(*homes.values())) == 2


def test_a_client_that_hangs_up_ends_its_generation(client):
    endless = BODY | {"max_new_tokens": 60_000, "min_new_tokens": 60_000}  # whatever ends a text
    with client.stream("POST", "/generate/stream", json=endless) as answer:
        home = answer.headers["x-replica"]
        lines = answer.iter_lines()  # kept: httpx hangs up when it is dropped
        next(lines)
        wait_until(lambda: metric_by_replica(client, "running_requests")[home] == 1.0)
    wait_until(lambda: metric_by_replica(client, "running_requests")[home] == 0.0)


def test_no_request_is_lost_with_its_replica(client, ray_service):
    """The last test: Ray then takes its time to start another."""
    bodies = [BODY | {"text": f"{number} {PROMPT}", "max_new_tokens": 40} for number in range(48)]
    expected = [client.post("/generate", json=body).json()["generated_text"] for body in bodies]

    def ask(body):
        answer = client.post("/generate", json=body)
        return answer.status_code, answer.json().get("generated_text"), answer.headers["x-replica"]

    with ThreadPoolExecutor(12) as pool:
        told = [pool.submit(ask, body) for body in bodies]
        wait_until(lambda: sum(each.done() for each in told) >= 4)
        ray_service.replica_processes()[0].kill()
        answers = [each.result() for each in told]
    assert [each[0] for each in answers] == [200] * len(bodies)
    assert [each[1] for each in answers] == expected
    assert "a replica was lost" in ray_service.output
    wait_until(lambda: len(metric_by_replica(client, "waiting_requests")) == 2)


def test_a_stream_that_had_begun_tells_that_its_replica_died(client, ray_service):
    endless = BODY | {"max_new_tokens": 60_000, "min_new_tokens": 60_000}  # whatever ends a text
    with client.stream("POST", "/generate/stream", json=endless) as answer:
        lines = answer.iter_lines()
        next(lines)
        for process in ray_service.replica_processes():
            process.kill()
        rest = list(lines)
    event, data = rest[-3:-1]
    assert event == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "service_unavailable"
