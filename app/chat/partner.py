"""What answers in a chat, as the loop sees it: a model in this process, or a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from app.chat.conversation import Fields


class ChatFailed(Exception):
    """A question cannot be answered, or fields cannot be used; the message is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer."""

    text: str
    further: tuple[str, ...]  # other sequences, where several were asked for
    num_tokens: int  # of all of them
    finish_reason: str
    seed: int | None
    is_cached: bool

    @classmethod
    def read(cls, response: Mapping[str, object]) -> "Reply":
        """Of the response to a request for an answer without its prompt.

        Raises:
            ChatFailed: it is not the response of a Beamline server.
        """
        try:
            results = response.get("sequences") or [response]
            num_prompt = response["input_length"]
            return cls(
                text=str(response["generated_text"]),
                further=tuple(result["generated_text"] for result in results[1:]),  # type: ignore[index]
                num_tokens=sum(each["output_length"] - num_prompt for each in results),  # type: ignore[attr-defined]
                finish_reason=str(response["finish_reason"]),
                seed=response["seed"],  # type: ignore[arg-type]
                is_cached=bool(response["cached"]),
            )
        except (KeyError, TypeError) as error:
            raise ChatFailed(f"the server answers in another way: {error!r}") from error


class Partner(Protocol):
    """Answers requests, one at a time."""

    @property
    def description(self) -> str:
        """What it is, in a line."""

    def check(self, fields: Fields) -> None:
        """Find out whether requests may have these fields, as far as can be known before.

        Raises:
            ChatFailed: they may not; names the field.
        """

    async def answer(self, body: Fields, show: Callable[[str], None]) -> Reply:
        """The answer to a request; `show` gets its first sequence as it comes.

        Raises:
            ChatFailed: there is none.
        """
