"""Real Ray, two fronts, two replicas, real requests: what a client and an operator see of it."""

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.ray.conftest import FRONT, REPLICA, start_cluster
from tests.deploy.ray.observing import (
    BODY,
    PROMPT,
    gated,
    last_event,
    metric_by_replica,
    replicas,
    wait_until,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
]  # a cluster takes most of a minute to start

MAX_ROWS, MAX_WAITING = 8, 24
STALL_SECONDS = 15.0  # also the time until Ray gives up a process that is frozen
ENDLESS = BODY | {"max_new_tokens": 60_000, "min_new_tokens": 60_000}  # whatever ends a text
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Sail."}]}


@pytest.fixture(scope="module")
def ray_service(place):
    """Two replicas with little room, so that tests can fill it."""
    settings = {
        "max_rows": MAX_ROWS,
        "max_waiting_requests": MAX_WAITING,
        "stall_seconds": STALL_SECONDS,
    }
    service = start_cluster(
        place, settings, min_replicas=2, max_replicas=2, num_fronts=2, accept_seconds=120.0
    )
    yield service
    service.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(40) as pool:
        yield pool


def is_at_rest(client):
    return set(metric_by_replica(client, "running_requests").values()) == {0.0}


def raw_post(path, body, replica):
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nX-Replica: {replica}\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return f"{head}{kind}".encode() + content


def test_both_replicas_give_the_same_tokens_for_the_same_seed(client):
    wait_until(lambda: len(replicas(client)) == 2)
    names = sorted(replicas(client))
    answers = [client.post("/generate", json=BODY, headers={"x-replica": each}) for each in names]
    assert [each.headers["x-replica"] for each in answers] == names
    assert answers[0].json() == answers[1].json()
    assert len(answers[0].headers.get_list("x-request-id")) == 1


def test_openai_client_chats_and_streams(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    ask = partial(
        client.chat.completions.create,
        **CHAT,
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


def test_a_full_queue_refuses_in_the_shape_of_each_api_and_says_when_to_retry(
    client, pool, tmp_path
):
    home = sorted(replicas(client))[0]
    there = {"x-replica": home}
    hold = partial(client.post, "/generate", json=gated(tmp_path / "go"), headers=there)
    held = [pool.submit(hold) for _ in range(MAX_ROWS)]
    wait_until(lambda: metric_by_replica(client, "running_requests")[home] == MAX_ROWS)
    held += [pool.submit(hold) for _ in range(MAX_WAITING)]
    wait_until(lambda: metric_by_replica(client, "waiting_requests")[home] == MAX_WAITING)
    ours = client.post("/generate", json=BODY, headers=there)
    chat = client.post("/v1/chat/completions", json=CHAT, headers=there)
    stream = client.post("/v1/completions", json={"prompt": "a", "stream": True}, headers=there)
    tgi = client.post("/generate", json={"inputs": "a"}, headers=there)
    (tmp_path / "go").touch()
    assert [each.result().status_code for each in held] == [200] * len(held)
    assert [each.status_code for each in (ours, chat, stream, tgi)] == [503, 503, 503, 429]
    for refused in (ours, chat, stream):
        assert refused.json()["error"]["code"] == "queue_full"
    assert tgi.json()["error_type"] == "overloaded"
    assert all(int(each.headers["retry-after"]) >= 1 for each in (ours, chat, stream, tgi))


def test_a_conversation_meets_its_cached_prefix_whichever_front_it_comes_by(client):
    before = metric_by_replica(client, "prefix_cache_hit_tokens_total")
    messages = [{"role": "user", "content": "Tell me of the harbour at night. " * 20}]
    homes = set()
    for turn in range(6):
        answer = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 4})
        homes.add(answer.headers["x-replica"])
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": f"{turn}"}]
        messages[-2].pop("refusal", None)
    (home,) = homes
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


@pytest.mark.parametrize("told", [{}, {"x-request-disconnect-disabled": "?1"}])
def test_a_client_that_hangs_up_frees_its_rows_whatever_it_tells_rays_proxy(client, told):
    with client.stream("POST", "/generate/stream", json=ENDLESS, headers=told) as answer:
        home = answer.headers["x-replica"]
        lines = answer.iter_lines()  # kept: httpx hangs up when it is dropped
        next(lines)
        wait_until(lambda: metric_by_replica(client, "running_requests")[home] == 1.0)
    wait_until(lambda: metric_by_replica(client, "running_requests")[home] == 0.0)


def test_a_client_that_gives_up_waiting_is_counted_as_gone_and_not_as_our_failure(client):
    home = sorted(replicas(client))[0]
    counted = partial(
        metric_by_replica, client, "api_requests_total", endpoint="/generate", method="POST"
    )
    gone, failed = partial(counted, status="499"), partial(counted, status="500")
    before = gone().get(home, 0.0)
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(raw_post("/generate", ENDLESS, home))
        wait_until(lambda: metric_by_replica(client, "running_requests")[home] == 1.0)
    wait_until(lambda: gone().get(home, 0.0) == before + 1.0)
    wait_until(lambda: is_at_rest(client))
    assert home not in failed()


def test_prometheus_reads_the_metrics_of_all_replicas_by_their_types(client):
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"
    page = client.get("/metrics", headers={"accept": accept})
    families = {each.name: each for each in text_string_to_metric_families(page.text)}
    assert families["prefix_cache_hit_tokens"].type == "counter"
    assert {each.labels["replica"] for each in families["waiting_requests"].samples} == replicas(
        client
    )


def test_no_request_is_lost_with_its_replica(client, ray_service):
    bodies = [BODY | {"text": f"{number} {PROMPT}", "max_new_tokens": 40} for number in range(48)]
    expected = [client.post("/generate", json=body).json()["generated_text"] for body in bodies]

    def ask(body):
        answer = client.post("/generate", json=body)
        return answer.status_code, answer.json().get("generated_text"), answer.headers["x-replica"]

    with ThreadPoolExecutor(12) as pool:
        told = [pool.submit(ask, body) for body in bodies]
        wait_until(lambda: sum(each.done() for each in told) >= 4)
        ray_service.processes(REPLICA)[0].kill()
        answers = [each.result() for each in told]
    assert [each[0] for each in answers] == [200] * len(bodies)
    assert [each[1] for each in answers] == expected
    assert "a replica was lost" in ray_service.output
    wait_until(lambda: len(replicas(client)) == 2)


def test_a_front_that_dies_takes_along_only_what_it_held(client, ray_service):
    victim, survivor = ray_service.processes(FRONT)

    def ask(number):
        body = BODY | {"text": f"{number} {PROMPT}", "max_new_tokens": 40}
        return client.post("/generate", json=body).status_code

    with ThreadPoolExecutor(12) as pool:
        told = [pool.submit(ask, number) for number in range(96)]
        wait_until(lambda: sum(each.done() for each in told) >= 12)
        victim.kill()
        statuses = [each.result() for each in told]
    assert set(statuses) <= {200, 500, 503}
    assert sum(status != 200 for status in statuses) <= 12
    wait_until(lambda: len(ray_service.processes(FRONT)) == 2)
    assert survivor.is_running()
    assert client.post("/generate", json=BODY).status_code == 200


def test_a_replica_whose_engine_died_gets_nothing_more_and_is_replaced(client, pool):
    session = {"x-session-id": "doomed"}
    home = client.post("/generate", json=BODY, headers=session).headers["x-replica"]
    there = {"x-replica": home}
    poison = BODY | {"strategy": "fatal"}
    killer = pool.submit(client.post, "/generate", json=poison, headers=there)
    wait_until(lambda: client.get("/readyz", headers=there).status_code == 503)
    meanwhile = [client.post("/generate", json=BODY, headers=session) for _ in range(6)]
    assert [each.status_code for each in meanwhile] == [200] * 6
    assert home not in {each.headers["x-replica"] for each in meanwhile}
    wait_until(lambda: home not in replicas(client) and len(replicas(client)) == 2)
    assert killer.result().status_code == 404  # it asked for that one and no other


def test_a_replica_whose_engine_hangs_is_replaced_and_what_it_had_taken_is_answered(client, pool):
    session = {"x-session-id": "stranded"}
    home = client.post("/generate", json=BODY, headers=session).headers["x-replica"]
    stuck = BODY | {"strategy": "stuck"}
    culprit = pool.submit(client.post, "/generate", json=stuck, headers={"x-replica": home})
    wait_until(lambda: metric_by_replica(client, "running_requests")[home] == 1.0)
    stranded = [pool.submit(client.post, "/generate", json=BODY, headers=session) for _ in range(4)]
    assert [each.result().status_code for each in stranded] == [200] * 4
    assert home not in {each.result().headers["x-replica"] for each in stranded}
    assert culprit.result().status_code == 404
    wait_until(lambda: home not in replicas(client) and len(replicas(client)) == 2)


def test_a_replica_that_is_frozen_is_replaced_and_nobody_is_refused(client, pool, ray_service):
    before = replicas(client)
    victim = ray_service.processes(REPLICA)[0]
    victim.send_signal(signal.SIGSTOP)
    sessions = [{"x-session-id": f"session {number}"} for number in range(8)]
    told = [pool.submit(client.post, "/generate", json=BODY, headers=each) for each in sessions]
    assert [each.result().status_code for each in told] == [200] * len(sessions)
    wait_until(lambda: len(replicas(client)) == 2 and replicas(client) != before)
    wait_until(lambda: not victim.is_running())


def test_a_stream_that_had_begun_tells_that_its_replica_died(client, ray_service):
    """The last test: Ray then takes its time to start others."""
    with client.stream("POST", "/generate/stream", json=ENDLESS) as answer:
        lines = answer.iter_lines()
        next(lines)
        for process in ray_service.processes(REPLICA):
            process.kill()
        rest = list(lines)
    assert last_event(iter(rest)) == "error"
    data = rest[-2].removeprefix("data: ")
    assert json.loads(data)["error"]["code"] == "service_unavailable"
