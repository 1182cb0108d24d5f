import json

import pytest
from starlette.datastructures import Headers

from deploy.ray.affinity import affinity_key, fields_of

SYSTEM = {"role": "system", "content": "You are a harbour master."}


def key(body, headers=None, prefix_characters=512):
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = fields_of(encoded)
    return affinity_key(Headers(headers or {}), fields, prefix_characters=prefix_characters)


def conversation(*contents):
    roles = ("user", "assistant")
    turns = [{"role": roles[at % 2], "content": each} for at, each in enumerate(contents)]
    return {"messages": [SYSTEM, *turns]}


def test_a_conversation_keeps_its_key_however_long_it_grows():
    first = key(conversation("Hello"))
    assert key(conversation("Hello", "Hi", "And now?")) == first
    assert key(conversation("Good day", "Hi", "And now?")) != first


def test_a_session_header_counts_more_than_the_text():
    mine, yours = {"x-session-id": "mine"}, {"x-session-id": "yours"}
    assert key(conversation("A"), mine) == key(conversation("B"), mine) == key(b"", mine)
    assert key(conversation("A"), mine) != key(conversation("A"), yours)


def test_only_the_first_characters_of_a_prompt_count():
    assert key({"text": "abcd1"}, prefix_characters=4) == key(
        {"text": "abcd2"}, prefix_characters=4
    )
    assert key({"text": "abc1"}, prefix_characters=4) != key({"text": "abc2"}, prefix_characters=4)


@pytest.mark.parametrize(
    "body",
    [
        {"text": "abc"},
        {"text": ["abc", "def"]},
        {"prompt": "abc"},
        {"prompt": ["abc"]},
        {"input": "abc"},
        {"inputs": "abc"},
    ],
)
def test_a_prompt_is_one_prompt_in_all_apis(body):
    assert key(body) == key({"text": "abc"})


def test_token_ids_are_a_prompt():
    assert key({"prompt": [1, 2, 3]}) == key({"prompt": [[1, 2, 3]]}) != key({"prompt": [1, 2]})


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b'{"a": 1}', b"[" * 100_000, b'{"a":' * 100_000, b"\xff"]
)
def test_what_says_no_prompt_has_no_key(body):
    assert key(body) is None


def test_half_a_surrogate_is_no_mistake_here():
    assert key(b'{"text": "\\ud800"}') is not None
