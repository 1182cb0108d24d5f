"""Server processes on one real Redis: what one computes the others give, whatever Redis does."""

import itertools
import json
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.conftest import beamline, build_tokenizer, save_tiny_model

GREEDY = {"strategy": "greedy", "max_new_tokens": 6}
GENERATE_ONLY, OPERATOR = "a-key-of-somebody-1", "an-operators-key-12"
SECRET = "a secret that replicas share, only they"


@pytest.fixture
def replica(run, redis, tiny_model_folder):
    """Starts a server on the Redis; gives a client for it, as one key or another."""
    clients = []

    def start(folder=tiny_model_folder, **settings):
        return run(
            beamline("serve", "--model", str(folder), "--port", "0", "--device", "cpu"),
            BEAMLINE_CACHE_REDIS=redis.url,
            BEAMLINE_CACHE_REDIS_SECRET=SECRET,
            BEAMLINE_API_KEYS=GENERATE_ONLY,
            BEAMLINE_ADMIN_API_KEYS=OPERATOR,
            **settings,
        )

    def connect(server):
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        clients.append(httpx.Client(base_url=server.ready_url(), timeout=120.0, headers=headers))
        return clients[-1]

    yield start, connect
    for client in clients:
        client.close()


@pytest.fixture
def pair_of_chats(replica, chat_model_folder):
    """Clients of two replicas whose model has a chat template."""
    start, connect = replica
    # Generous: a busy machine must not make a lookup of this test late.
    patient = {"BEAMLINE_CACHE_REDIS_TIMEOUT_SECONDS": "10"}
    servers = [start(chat_model_folder, **patient) for _ in range(2)]
    return [connect(server) for server in servers]


def ask(client, text, key=OPERATOR, path="/generate", **body):
    answer = client.post(
        path, json=GREEDY | {"text": text} | body, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 200, answer.text
    return answer


def metric(client, name):
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def wait_until(condition):
    """Ask until it is so; the test's timeout ends a vain wait."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.05)


def stored(client):
    return metric(client, 'shared_cache_writes_total{outcome="stored"}')


def hits(client):
    return metric(client, 'shared_cache_lookups_total{outcome="hit"}')


def test_what_one_process_computes_is_a_hit_in_the_other(replica, tmp_path):
    start, connect = replica
    save_tiny_model(tmp_path / "other-model", build_tokenizer())
    # Generous: a busy machine must not make a lookup of this test late.
    patient = {"BEAMLINE_CACHE_REDIS_TIMEOUT_SECONDS": "10"}
    folders = ({}, {}, {"folder": tmp_path / "other-model"})
    servers = [start(**folder, **patient) for folder in folders]
    first, second, other_model = (connect(server) for server in servers)

    computed = ask(first, "The sea", seed=1)
    wait_until(lambda: stored(first) == 1)
    found = ask(second, "The sea", seed=1)
    assert (computed.headers["x-cache"], found.headers["x-cache"]) == ("MISS", "HIT")
    assert found.json() == computed.json() | {"cached": True}
    assert hits(second) == 1

    ask(first, "The ships")
    wait_until(lambda: stored(first) == 2)
    streamed = ask(second, "The ships", path="/generate/stream")
    assert streamed.headers["x-cache"] == "HIT"
    done = json.loads(streamed.text.split("event: done\ndata: ")[1].strip())
    assert done == ask(first, "The ships").json()
    assert hits(second) == 2

    assert ask(second, "The sea", key=GENERATE_ONLY).headers["x-cache"] == "MISS"
    assert ask(other_model, "The sea").headers["x-cache"] == "MISS"
    assert (hits(second), hits(other_model)) == (2, 0)

    assert first.delete("/admin/cache").status_code == 200
    ask(second, "something that nobody has asked")  # it looks into Redis, and forgets its own
    assert ask(second, "The sea").headers["x-cache"] == "MISS"
    for server in servers:
        server.process.terminate()
        assert server.wait() == 0
        assert SECRET not in server.output


def without_names(answer):
    """What of an answer does not say which request it answers."""
    return {key: value for key, value in answer.items() if key not in ("id", "created")}


def whole_of(stream):
    """What the chunks of a stream say together: text by choice, reasons to end, and usage."""
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    assert stream.rstrip().endswith("data: [DONE]")
    texts, reasons = defaultdict(str), {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        said = choice["delta"].get("content") if "delta" in choice else choice["text"]
        texts[choice["index"]] += said or ""
        if choice["finish_reason"] is not None:
            reasons[choice["index"]] = choice["finish_reason"]
    return dict(texts), reasons, chunks[-1]["usage"], chunks[0]["model"], chunks[0]["object"]


def chat(text):
    return {"messages": [{"role": "user", "content": text}], "n": 2}


def completion(text):
    return {"prompt": [text, f"{text} again"], "logprobs": 2}


OPENAI = {"/v1/chat/completions": chat, "/v1/completions": completion}


def test_openai_answers_of_one_process_are_hits_in_the_other(pair_of_chats):
    first, second = pair_of_chats

    def ask_both(path, text, **options):
        body = OPENAI[path](text) | {"max_tokens": 6, "seed": 1, "temperature": 0.8} | options
        num_stored, num_hits = stored(first), hits(second)
        num_texts = len(body.get("prompt", [text]))
        computed = first.post(path, json=body)
        assert (computed.status_code, computed.headers["x-cache"]) == (200, "MISS"), computed.text
        wait_until(lambda: stored(first) == num_stored + num_texts)
        found = second.post(path, json=body)
        assert (found.status_code, found.headers["x-cache"]) == (200, "HIT"), found.text
        assert hits(second) == num_hits + num_texts
        return computed, found

    for path in OPENAI:
        computed, found = (answer.json() for answer in ask_both(path, "The sea"))
        assert without_names(found) == without_names(computed)
        assert found["id"] != computed["id"]
        streams = ask_both(path, "The ships", stream=True, stream_options={"include_usage": True})
        computed, found = (whole_of(answer.text) for answer in streams)
        assert found == computed
        assert any(found[0].values())


class Load:
    """Four clients that ask the replicas in turn, each text of both, until they are stopped."""

    def __init__(self, clients):
        self.clients = clients
        self.statuses = []
        self._numbers = itertools.count()
        self._has_stopped = threading.Event()
        self._pool = ThreadPoolExecutor(4)

    def __enter__(self):
        self._runs = [self._pool.submit(self._run) for _ in range(4)]
        return self

    def __exit__(self, *_):
        self._has_stopped.set()
        for each in self._runs:
            each.result()
        self._pool.shutdown()

    def _run(self):
        while not self._has_stopped.is_set():
            number = next(self._numbers)
            body = GREEDY | {"text": f"The sea {number // 2}", "max_new_tokens": 2}
            answer = self.clients[number % 2].post("/generate", json=body)
            self.statuses.append(answer.status_code)

    def total(self, name):
        return sum(metric(client, f"shared_cache_{name}") for client in self.clients)

    def until_more(self, num_answers):
        goal = len(self.statuses) + num_answers
        wait_until(lambda: len(self.statuses) >= goal)

    def until_stored(self, num_more):
        goal = self.total('writes_total{outcome="stored"}') + num_more
        wait_until(lambda: self.total('writes_total{outcome="stored"}') >= goal)

    def until_both_are(self, state):
        wait_until(lambda: self.total(f'breaker_state{{state="{state}"}}') == 2)


def test_redis_that_dies_in_mid_load_costs_no_request_and_is_found_again(replica, redis):
    start, connect = replica
    servers = [start(), start()]
    first, second = clients = [connect(server) for server in servers]
    with Load(clients) as load:
        load.until_stored(20)
        redis.kill()
        load.until_both_are("open")
        load.until_more(40)
        failures = load.total('lookups_total{outcome="error"}')
        assert failures + load.total('writes_total{outcome="error"}') >= 10  # five of each
        assert load.total('lookups_total{outcome="skipped"}') > 0
        redis.start()
        load.until_both_are("closed")
        load.until_stored(20)
    assert set(load.statuses) == {200}
    shared = ask(first, "after all that")
    wait_until(lambda: ask(second, "after all that").headers["x-cache"] == "HIT")
    assert ask(second, "after all that").json() == shared.json() | {"cached": True}
    for server in servers:
        assert "the shared cache does not answer" in server.output
        assert "the shared cache answers again" in server.output
