"""Two servers behind the real vllm-router: its cache-aware mode, keys, streams, a server that dies.

The router re-writes bodies with fields of vLLM and SGLang, and asks each server what a request's
tokens are to find out which has seen its beginning.
"""

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.e2e.routed import (
    KEY,
    KEY_OF_SECOND,
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

pytestmark = pytest.mark.skipif(not ROUTER.exists(), reason="needs `make clients`")


@pytest.fixture(scope="module")
def fleet(chat_model_folder, tmp_path_factory):
    """A test may end a server, the last one only."""
    fleet = Fleet(chat_model_folder, tmp_path_factory.mktemp("cache"))
    yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def url(fleet):
    """The router's."""
    with routed(fleet, "--policy", "cache_aware") as url:
        yield url


@pytest.fixture(scope="module")
def url_with_key(fleet):
    """That of a router that has a key of its own."""
    with routed(fleet, "--policy", "cache_aware", "--api-key", KEY) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    return client_of(url)


def length_of(fleet, topic, turns):
    body = {"messages": conversation(topic, turns)}
    answer = httpx.post(f"{fleet.urls()[0]}/tokenize", json=body, headers=WITH_KEY)
    return answer.json()["count"]


def test_chats_completions_and_streams_come_through_as_from_a_server(client, fleet):
    direct = fleet.client()
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


@pytest.mark.parametrize(
    "body", [{"text": "The sea", "max_new_tokens": 4}, {"inputs": "The sea"}], ids=["ours", "tgi"]
)
def test_what_the_router_makes_of_generate_is_refused_and_not_half_obeyed(url, body):
    """It keeps what SGLang knows, and drops what it does not."""
    answer = httpx.post(f"{url}/generate", json=body, headers=WITH_KEY)
    assert answer.status_code == 422
    assert "return_logprob" in {each["param"] for each in answer.json()["errors"]}


def test_the_key_of_a_chat_goes_on_to_the_server(url):
    for key in ("sk-that-nobody-knows", "none"):
        with pytest.raises(openai.AuthenticationError):
            ask(client_of(url, key), "sea")
    body = {"model": MODEL, "messages": conversation("sea"), "max_tokens": 4}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"x-api-key": KEY})
    assert answer.status_code == 200


def test_a_key_that_one_server_does_not_know_is_not_tried_at_another(fleet):
    with routed(fleet, "--policy", "round_robin") as url:
        statuses = [
            httpx.post(
                f"{url}/v1/completions",
                json={"model": MODEL, "prompt": "The sea", "max_tokens": 2},
                headers={"Authorization": f"Bearer {KEY_OF_SECOND}"},
            ).status_code
            for _ in range(4)
        ]
    assert sorted(statuses) == [200, 200, 401, 401]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": MODEL, "input": "The sea", "max_output_tokens": 4, "seed": 1}),
        ("/tokenize", {"text": "The sea"}),
        ("/score", {"text": "The sea", "continuations": [" is", " was"]}),
        ("/generate/stream", {"text": "The sea", "max_new_tokens": 4, "seed": 1}),
    ],
)
def test_other_routes_lose_the_clients_key_and_get_that_of_the_router(
    url, url_with_key, fleet, path, body
):
    """So whoever reaches a router with a key needs none."""
    assert httpx.post(f"{url}{path}", json=body, headers=WITH_KEY).status_code == 401
    through = httpx.post(f"{url_with_key}{path}", json=body)
    assert through.status_code == 200
    direct = httpx.post(f"{fleet.urls()[0]}{path}", json=body, headers=WITH_KEY)
    assert telling(through) == telling(direct)
    with pytest.raises(openai.AuthenticationError):
        ask(client_of(url_with_key, "none"), "sea")


def telling(answer):
    """What an answer says, without what is new each time and what rounding may change."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        data = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
        said = [json.loads(data[-1])["generated_text"]]
    elif "output" in answer.json():
        said = [item["content"][0]["text"] for item in answer.json()["output"]]
    else:
        said = [answer.json()[name] for name in ("best", "tokens") if name in answer.json()]
    assert said
    return said


def test_requests_that_begin_alike_meet_their_cached_prefix(client, fleet):
    before = sum(fleet.metric("prefix_cache_hit_tokens_total"))
    prompt_tokens = 0
    for turns in range(4):
        for topic in TOPICS:
            prompt_tokens += ask(client, topic, turns).usage.prompt_tokens if turns else 0
            if not turns:
                ask(client, topic)
    hits = sum(fleet.metric("prefix_cache_hit_tokens_total")) - before
    assert hits > 0.6 * prompt_tokens  # what is new of a turn is new to everybody


def test_each_conversation_stays_with_one_server(client, fleet):
    """Every turn after the first finds the turn before, and only one server has seen any."""
    for topic in ("mast", "rudder", "compass"):
        asked = fleet.metric("prefix_cache_queried_tokens_total")
        ask(client, topic)
        for turns in (1, 2, 3):
            answer = ask(client, topic, turns)
            before = 0.7 * length_of(fleet, topic, turns - 1)
            assert answer.usage.prompt_tokens_details.cached_tokens >= before
        now = fleet.metric("prefix_cache_queried_tokens_total")
        assert sum(after > then for after, then in zip(now, asked, strict=True)) == 1


def test_no_request_fails_when_a_server_is_killed_under_load(client, fleet):
    """The last test of the module: the server that has most to do is gone after it."""
    asked = fleet.metric("prefix_cache_queried_tokens_total")
    expected = {
        topic: ask(client, topic, extra_body={"cache": False}).choices[0].message.content
        for topic in TOPICS
    }
    now = fleet.metric("prefix_cache_queried_tokens_total")
    victim = max(range(2), key=lambda at: now[at] - asked[at])
    load = TOPICS * 10

    def told(topic):
        return ask(client, topic, extra_body={"cache": False}).choices[0].message.content

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(told, topic) for topic in load[:30]]
        answers[3].result()
        fleet.servers[victim].signal(signal.SIGKILL)
        answers += [pool.submit(told, topic) for topic in load[30:]]
        texts = [answer.result() for answer in answers]
    assert texts == [expected[topic] for topic in load]
