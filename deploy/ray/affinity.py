"""What a request begins like, as a key: requests with one key find one replica's prefix cache.

Three things make a key, the first that there is:

* the header `X-Session-Id`,
* the conversation up to the user's first message, which stays the same however long it grows,
* the first characters of the prompt.

A body that is no JSON, or that says none of it, has no key. Nothing is checked here: the replica
does that.
"""

import hashlib
import json
from collections.abc import Iterator

from starlette.datastructures import Headers

SESSION_HEADER = "x-session-id"
CONVERSATIONS = ("messages", "input", "inputs")
PROMPTS = ("text", "prompt", "input", "inputs", "text_input")


def fields_of(body: bytes) -> dict[str, object] | None:
    """A body's JSON object, or None where it is none."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        fields: dict[str, object] = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return fields


def affinity_key(
    headers: Headers, fields: dict[str, object] | None, *, prefix_characters: int
) -> bytes | None:
    """The key of a request, or None if any replica serves it as well as any other."""
    if (session := headers.get(SESSION_HEADER)) is not None:
        return _digest("session", session)
    beginning = None if fields is None else _beginning(fields)
    return None if beginning is None else _digest("prefix", beginning[:prefix_characters])


def _beginning(fields: dict[str, object]) -> str | None:
    for name in CONVERSATIONS:
        conversation = fields.get(name)
        if isinstance(conversation, list) and _is_conversation(conversation):
            return "\n".join(_opening(conversation))
    prompts = (fields.get(name) for name in PROMPTS)
    return next((_first_text(prompt) for prompt in prompts if prompt), None)


def _is_conversation(items: list[object]) -> bool:
    return bool(items) and all(isinstance(item, dict) for item in items)


def _opening(conversation: list[dict[str, object]]) -> Iterator[str]:
    """Everything up to the user's first message."""
    for message in conversation:
        yield json.dumps([message.get("role"), message.get("content")], ensure_ascii=False)
        if message.get("role") == "user":
            return


def _first_text(prompt: object) -> str:
    """Of a list of prompts the first; token ids are text as well as any."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return _first_text(prompt[0])
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def _digest(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind} {text}".encode(errors="surrogatepass"), digest_size=16).digest()
