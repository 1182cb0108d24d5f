"""The ways to ask for text over HTTP, each with its own names for the same things."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PROMPT = "what is the best way to learn a language? what is the best way"
SHARED = {"seed": 3, "max_new_tokens": 16, "cache": False}
OPENAI_NAMES = {"max_new_tokens": "max_tokens", "num_return_sequences": "n"}

Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Api:
    """A route that writes text."""

    path: str
    body: Mapping[str, Any]
    read: Callable[[Answer], list[tuple[str, float | None]]]
    names: Mapping[str, str] = field(default_factory=dict)  # of our fields
    refusal: int = 422

    async def send(self, service, **fields):
        """The response to a request with these of our fields."""
        ours = {**SHARED, **fields}
        body = {**self.body, **{self.name_of(name): value for name, value in ours.items()}}
        return await service.client.post(self.path, json=body)

    async def ask(self, service, **fields):
        """The texts of a request's answer, and their scores."""
        response = await self.send(service, **fields)
        assert response.status_code == 200, (fields, response.text)
        return self.read(response.json())

    def name_of(self, name):
        return self.names.get(name, name)


def _generated(answer):
    several = answer.get("sequences") or [answer]
    return [(each["generated_text"], each.get("score")) for each in several]


def _completed(answer):
    return [(each["text"], each.get("score")) for each in answer["choices"]]


def _chatted(answer):
    return [(each["message"]["content"], each.get("score")) for each in answer["choices"]]


GENERATE = Api(path="/generate", body={"text": PROMPT, "return_full_text": False}, read=_generated)
COMPLETIONS = Api(
    path="/v1/completions",
    body={"prompt": PROMPT},
    read=_completed,
    names=OPENAI_NAMES,
    refusal=400,
)
CHATS = Api(
    path="/v1/chat/completions",
    body={"messages": [{"role": "user", "content": PROMPT}]},
    read=_chatted,
    names=OPENAI_NAMES,
    refusal=400,
)
APIS = {"generate": GENERATE, "completions": COMPLETIONS, "chats": CHATS}
