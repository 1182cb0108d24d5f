"""One request's view of the flight that answers it. Lives on the event loop.

`TextGenerator.start` opens it; routes, streams and jobs read it and close it. What comes of the
engine, and what happens when nobody is left to read, is the flight's business.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum

from app.generation.completion import Chunk, Completed
from app.generation.flight import Flight
from app.generation.prepared_request import PreparedRequest


class CacheOutcome(StrEnum):
    """What the response cache did for a request."""

    HIT = "hit"  # answered by a finished generation, or by one already under way
    MISS = "miss"
    BYPASS = "bypass"


class Subscription:
    """One request's view of a flight. Whoever opened it must `close` it, whatever happens."""

    def __init__(
        self,
        prepared: PreparedRequest,
        flight: Flight,
        *,
        outcome: CacheOutcome,
        received_at: float,
        on_close: Callable[["Subscription"], None],
    ) -> None:
        self.prepared = prepared  # this request's own: it may be presented in another way
        self.outcome = outcome
        self.received_at = received_at
        self.flight = flight
        self._on_close = on_close
        self._num_read = 0
        self._changed = asyncio.Event()
        self._wants_chunks = False
        self._is_nudged = False
        self._is_closed = False
        flight.join(self)

    @property
    def has_started(self) -> bool:
        """Whether the first token has come."""
        return bool(self.flight.chunks)

    async def begun(self, patience_seconds: float) -> None:
        """Wait until there is a token or the whole answer, but no longer than so many seconds.

        Raises:
            Exception: what the generation failed with. See `app/errors.py`.
        """
        flight = self.flight
        self._wants_chunks = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_seconds):
                while not flight.chunks and not flight.has_ended:
                    await self._wait()
        if flight.error is not None:
            raise flight.error

    @property
    def has_ended(self) -> bool:
        """Whether no chunks will come but those that are there."""
        return self.flight.has_ended

    async def next_chunks(self) -> Sequence[Chunk] | None:
        """All chunks that came since the last call; waits for one. Empty: there are no more.

        None: `nudge` was called before any came.

        Raises:
            Exception: what the generation failed with. See `app/errors.py`.
        """
        flight = self.flight
        self._wants_chunks = True
        while self._num_read == len(flight.chunks) and not flight.has_ended:
            await self._wait()
            if self._is_nudged:
                self._is_nudged = False
                return None
        chunks = flight.chunks[self._num_read :]
        if not chunks and flight.error is not None:
            raise flight.error
        self._num_read += len(chunks)
        return chunks

    async def completed(self) -> Completed:
        """The whole answer; waits for it, and for nothing before it.

        Raises:
            Exception: what the generation failed with. See `app/errors.py`.
        """
        flight = self.flight
        self._wants_chunks = False
        while not flight.has_ended:
            await self._wait()
        if flight.completed is None:
            assert flight.error is not None, "what ended without an answer has failed"
            raise flight.error
        return flight.completed

    def wake(self) -> None:
        """Called by the flight: there is something new."""
        if self._wants_chunks or self.flight.has_ended:
            self._changed.set()

    def nudge(self) -> None:
        """Have `next_chunks` return although nothing has come."""
        self._is_nudged = True
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def close(self) -> None:
        """Stop waiting; the last one to do so ends the generation. Idempotent, never blocks."""
        if self._is_closed:
            return
        self._is_closed = True
        self.flight.leave(self)
        self._on_close(self)
