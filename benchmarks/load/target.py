"""How one kind of server is asked for a stream, and what its events say.

A target knows a path, how to write a request, and how to read an event. `BeamlineTarget` speaks our
API, `OpenAITarget` the one that most other servers speak.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.load.workload import PromptRequest


class UnexpectedAnswer(Exception):
    """A server's answer is an error, or not of the API it should speak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one event says. Counts that stay None are not known from it."""

    text: str = ""
    num_tokens: int = 0  # new ones in this event
    num_prompt_tokens: int | None = None
    num_new_tokens: int | None = None  # of the whole answer
    is_last: bool = False  # the answer is whole


class Target(Protocol):
    """One kind of server."""

    @property
    def url(self) -> str:
        """Where requests are posted."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What they carry besides what all loads send: a key, if there is one."""

    def body(self, request: PromptRequest) -> bytes:
        """The request as JSON."""

    def read(self, event: str, data: str) -> Said:
        """What an event says.

        Raises:
            UnexpectedAnswer: an error, or something of another API.
        """


@dataclass(frozen=True, slots=True)
class BeamlineTarget:
    """Our own API: POST /generate/stream."""

    base_url: str
    parameters: Mapping[str, Any] = field(default_factory=dict)  # e.g. strategy, temperature
    api_key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where requests are posted."""
        return f"{self.base_url.rstrip('/')}/generate/stream"

    @property
    def headers(self) -> Mapping[str, str]:
        """The key, if there is one."""
        return _bearer(self.api_key)

    def body(self, request: PromptRequest) -> bytes:
        """The request as JSON; the response cache is left out unless it is asked for."""
        asked = {"text": request.text, "max_new_tokens": request.max_new_tokens, "cache": False}
        return json.dumps(asked | dict(self.parameters)).encode()

    def read(self, event: str, data: str) -> Said:
        """What an event says."""
        content = _object(data)
        if event == "token":
            return Said(text=content["text"], num_tokens=len(content["token_ids"]))
        if event == "done":
            sequences = content.get("sequences") or [content]
            prompt = content["input_length"]
            new = sum(sequence["output_length"] - prompt for sequence in sequences)
            return Said(num_prompt_tokens=prompt, num_new_tokens=new, is_last=True)
        if event == "error":
            raise UnexpectedAnswer(_message(content))
        return Said()


@dataclass(frozen=True, slots=True)
class OpenAITarget:
    """OpenAI's API: POST /v1/completions, or /v1/chat/completions."""

    base_url: str
    model: str = "default"
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    is_chat: bool = False
    api_key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where requests are posted."""
        path = "chat/completions" if self.is_chat else "completions"
        return f"{self.base_url.rstrip('/')}/v1/{path}"

    @property
    def headers(self) -> Mapping[str, str]:
        """The key, if there is one."""
        return _bearer(self.api_key)

    def body(self, request: PromptRequest) -> bytes:
        """The request as JSON."""
        asked: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_new_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.is_chat:
            asked["messages"] = [{"role": "user", "content": request.text}]
        else:
            asked["prompt"] = request.text
        return json.dumps(asked | dict(self.extra_body)).encode()

    def read(self, event: str, data: str) -> Said:
        """What an event says; a chunk with text counts as a token, as the API has no count."""
        if data == "[DONE]":
            return Said(is_last=True)
        content = _object(data)
        if event == "error" or content.get("error"):
            raise UnexpectedAnswer(_message(content))
        choices = content.get("choices") or [{}]
        part = choices[0].get("delta", {}).get("content") if self.is_chat else None
        text = part or choices[0].get("text") or ""
        usage = content.get("usage") or {}
        return Said(
            text=text,
            num_tokens=1 if text else 0,
            num_prompt_tokens=usage.get("prompt_tokens"),
            num_new_tokens=usage.get("completion_tokens"),
        )


def _bearer(api_key: str | None) -> Mapping[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def _object(data: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UnexpectedAnswer(f"an event that is no JSON object: {data[:100]}")
    return content


def _message(content: Mapping[str, Any]) -> str:
    error = content.get("error", content)
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
