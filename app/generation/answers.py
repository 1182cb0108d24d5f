"""Answers to whole requests: one text, or a list of texts that run side by side.

Routes and jobs call `begin`, which starts every text, and wait for the `PendingAnswer` it gives.
A text of a list succeeds or fails as it would alone; only if all fail does the request fail.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from app.bodies.schemas import (
    AnyResponse,
    ErrorResponse,
    GenerateResponse,
    ListResponse,
)
from app.error_replies import describe
from app.errors import AppError, ListFailed
from app.generation.generator import TextGenerator
from app.generation.subscription import CacheOutcome, Subscription
from app.text.request import TextRequest
from engine.errors import EngineError

Failure = AppError | EngineError


class PendingAnswer:
    """An answer under way. Whoever began it must `close` it, whatever happens."""

    def __init__(
        self,
        generator: TextGenerator,
        items: Sequence[Subscription | Failure],
        *,
        is_list: bool,
    ) -> None:
        self._generator = generator
        self._items = items
        self._is_list = is_list

    @property
    def has_started(self) -> bool:
        """Whether any of its texts has its first token."""
        return any(isinstance(item, Subscription) and item.has_started for item in self._items)

    @property
    def cache_outcome(self) -> CacheOutcome:
        """What the cache did; for a list HIT or BYPASS if it is that for all, else MISS."""
        outcomes = {item.outcome for item in self._items if isinstance(item, Subscription)}
        return outcomes.pop() if len(outcomes) == 1 else CacheOutcome.MISS

    async def answer(self) -> AnyResponse:
        """The response body, when all of it is there.

        Raises:
            AppError, EngineError: the text failed, or all texts of the list did.
        """
        if not self._is_list:
            return await self._answer_one(self._items[0])
        results = [await self._answer_of_list(item) for item in self._items]
        failures = [result for result in results if isinstance(result, Exception)]
        if len(failures) == len(results):
            raise ListFailed(failures)
        return ListResponse(
            results=[
                _error_body(result) if isinstance(result, Exception) else result
                for result in results
            ]
        )

    def close(self) -> None:
        """Let go of everything that still runs. Idempotent, never blocks."""
        for item in self._items:
            if isinstance(item, Subscription):
                item.close()

    async def _answer_one(self, item: Subscription | Failure) -> GenerateResponse:
        if not isinstance(item, Subscription):
            raise item
        completed = await item.completed()
        return self._generator.presenter.present(item, completed)

    async def _answer_of_list(self, item: Subscription | Failure) -> GenerateResponse | Failure:
        try:
            return await self._answer_one(item)
        except (AppError, EngineError) as failure:
            return failure


async def begin(
    generator: TextGenerator, requests: Sequence[TextRequest], *, is_list: bool
) -> PendingAnswer:
    """Start every text. In turn, so that a long list does not fill the queue of texts alone.

    Raises:
        AppError, EngineError: the only text, or the last hope of a list, was refused.
    """
    items: list[Subscription | Failure] = []
    if is_list:
        field = requests[0].prompt_field.partition(".")[0]
        generator.request_limits.check_texts(len(requests), param=field)
        generator = generator.for_list()
    pending = PendingAnswer(generator, items, is_list=is_list)
    with ExitStack() as unwinding:
        unwinding.callback(pending.close)
        for request in requests:
            # One by one: what has started is in the list, and so closed, if the next is cancelled.
            items.append(await _start(generator, request))  # noqa: PERF401
        failures = [item for item in items if isinstance(item, Exception)]
        if len(failures) == len(items):
            raise ListFailed(failures) if is_list else failures[0]
        unwinding.pop_all()
    return pending


async def _start(generator: TextGenerator, request: TextRequest) -> Subscription | Failure:
    try:
        return await generator.start(request)
    except (AppError, EngineError) as failure:
        return failure


def _error_body(failure: Exception) -> ErrorResponse:
    return ErrorResponse.model_validate(describe(failure).as_json())
