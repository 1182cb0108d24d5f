"""What becomes known of one HTTP request while it is answered, for logs and traces.

The middleware opens a record, which everything that runs for the request finds with
`current_request`: a context variable, so that no signature between has to carry it. The generator
notes each generation; whoever tells of requests observes. Lives on the event loop.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRecord:
    """One generation as the request saw it. Times in seconds, moments on the service's clock."""

    strategy: str
    model: str
    is_chat: bool  # a conversation was continued, not a text
    parameters: Mapping[str, object]  # of the strategy
    max_new_tokens: int
    seed: int
    cache: str  # what the response cache did: hit, miss or bypass
    priority: int
    received_at: float
    ended_at: float
    num_prompt_tokens: int
    num_generated_tokens: int  # of all sequences, as far as they came
    finish_reasons: tuple[str, ...] = ()  # of its sequences; none if it failed
    error: str | None = None  # the code of what it failed with
    submitted_at: float | None = None  # of a generation of its own, not one from the cache
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    num_cached_tokens: int = 0  # prompt tokens whose keys and values were there already
    prompt: str = field(default="", repr=False)
    text: str = field(default="", repr=False)  # of its first sequence


@dataclass(slots=True, weakref_slot=True, kw_only=True, eq=False)
class RequestRecord:
    """One request. Written by the middleware, by who checks keys, and through `note`."""

    request_id: str
    method: str
    headers: Mapping[str, str]
    received_at: float
    observers: Sequence["RequestObserver"] = ()
    key_name: str | None = None  # of the API key that it came with
    error: str | None = None  # the code of the error that it was answered with
    generations: list[GenerationRecord] = field(default_factory=list)
    endpoint: str | None = None  # the route's template; None: it is not answered yet
    status: int | None = None
    ended_at: float | None = None

    def note(self, generation: GenerationRecord) -> None:
        """A generation has ended; a job's may do so long after the request was answered."""
        self.generations.append(generation)
        for observer in self.observers:
            observer.generation_ended(self, generation)

    def end(self, *, endpoint: str, status: int, ended_at: float) -> None:
        """The request has been answered."""
        self.endpoint, self.status, self.ended_at = endpoint, status, ended_at
        for observer in self.observers:
            observer.request_ended(self)


class RequestObserver(Protocol):
    """Somebody who tells of requests."""

    def request_began(self, record: RequestRecord) -> None:
        """A request has arrived."""

    def generation_ended(self, record: RequestRecord, generation: GenerationRecord) -> None:
        """It has generated something, or failed to."""

    def request_ended(self, record: RequestRecord) -> None:
        """It has been answered."""

    def close(self) -> None:
        """Tell what is left to tell; nothing comes any more. May block for seconds."""


_current: ContextVar[RequestRecord | None] = ContextVar("request", default=None)


def current_request() -> RequestRecord | None:
    """The record of the request that this runs for, if it runs for one."""
    return _current.get()


@contextmanager
def recorded(record: RequestRecord) -> Iterator[None]:
    """Everything inside runs for this request."""
    token = _current.set(record)
    for observer in record.observers:
        observer.request_began(record)
    try:
        yield
    finally:
        _current.reset(token)


def unique_id() -> str:
    """A new id for what the engine is asked; it begins with the current request's own."""
    record, number = current_request(), uuid.uuid4().hex
    return number if record is None else f"{record.request_id}/{number[:12]}"
