"""Answers the lines of a run: in their order, with a bounded number of requests under way.

All run in the engine's one batch. A line that fails is answered with its error; an engine that
fails ends the run instead, so that it can be resumed. Lives on the event loop.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from app.batch.lines import Line
from app.bodies.schemas import AnyResponse, ListResponse
from app.error_replies import describe
from app.errors import AppError, ServiceUnavailable
from app.generation.answers import begin
from app.generation.generator import TextGenerator
from engine.errors import EngineError

WINDOW = 8  # answers that wait for an earlier one, in multiples of the requests under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A line's answer, as the output holds it."""

    content: dict[str, object]
    is_error: bool  # whether any part of it is one

    @property
    def num_tokens(self) -> int:
        """New tokens in it, of all its sequences."""
        results = self.content.get("results", [self.content])
        assert isinstance(results, list), "the results of a list are one"
        return sum(_num_tokens(result) for result in results)

    def encode(self) -> bytes:
        """The line. Half a surrogate pair, which an id or a wrong name may hold, is escaped."""
        text = json.dumps(self.content, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "backslashreplace")


class BatchRun:
    """One run. `answers` may be called once."""

    def __init__(
        self,
        generator: TextGenerator,
        *,
        max_in_flight: int,
        engine_problem: Callable[[], str | None],
    ) -> None:
        self._generator = generator
        self._engine_problem = engine_problem
        self._max_in_flight = max_in_flight
        self._num_in_flight = 0  # requests; a line with a list makes several
        self._has_room = asyncio.Event()
        self._window = asyncio.Semaphore(WINDOW * max_in_flight)
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._started: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()

    async def answers(self, lines: AsyncIterator[Line]) -> AsyncGenerator[Answer, None]:
        """The answer of each line, in order. Closing the generator gives up what is under way.

        Raises:
            ServiceUnavailable: the engine has failed.
            Exception: what reading the lines raises.
        """
        starting = asyncio.create_task(self._start_all(lines))
        starting.add_done_callback(lambda _: self._started.put_nowait(None))
        try:
            while (task := await self._started.get()) is not None:
                yield await task
                self._window.release()
            await starting
        finally:
            unfinished = [starting, *self._tasks]
            for each in unfinished:
                each.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _start_all(self, lines: AsyncIterator[Line]) -> None:
        async for line in lines:
            await self._window.acquire()
            await self._take_room(len(line.requests))
            task = asyncio.create_task(self._answer(line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._started.put_nowait(task)

    async def _take_room(self, num_requests: int) -> None:
        """Wait until so many more may be under way; a line larger than the bound goes alone."""
        while self._num_in_flight and self._num_in_flight + num_requests > self._max_in_flight:
            self._has_room.clear()
            await self._has_room.wait()
        self._num_in_flight += num_requests

    async def _answer(self, line: Line) -> Answer:
        try:
            content, is_error = await self._ask(line)
        finally:
            self._num_in_flight -= len(line.requests)
            self._has_room.set()
        problem = self._engine_problem() if is_error else None
        if problem is not None:
            raise ServiceUnavailable(problem)
        asked: dict[str, object] = {"line": line.number, "digest": line.digest}
        if line.id is not None:
            asked["id"] = line.id
        return Answer(content=asked | content, is_error=is_error)

    async def _ask(self, line: Line) -> tuple[dict[str, object], bool]:
        if line.failure is not None:
            return describe(line.failure).as_json(), True
        try:
            pending = await begin(self._generator, line.requests, is_list=line.is_list)
            try:
                return _as_content(await pending.answer())
            finally:
                pending.close()
        except (AppError, EngineError) as error:
            return describe(error).as_json(), True


def _as_content(answer: AnyResponse) -> tuple[dict[str, object], bool]:
    """As `POST /generate` answers, without `cached`: it would tell of the moment, not the line."""
    content = json.loads(answer.model_dump_json())
    is_list = isinstance(answer, ListResponse)
    results = content["results"] if is_list else [content]
    for result in results:
        result.pop("cached", None)
    return content, any("error" in result for result in results)


def _num_tokens(result: dict[str, Any]) -> int:
    sequences = result.get("sequences", [result])
    return sum(
        each["output_length"] - result["input_length"] for each in sequences if "error" not in each
    )
