"""One run of the engine and everybody who waits for it. Lives on the event loop.

`TextGenerator` starts a `Flight` for each request that the cache cannot answer; identical
requests share one. Engine events come in through `receive`; each `Subscription` reads the growing
answer at its own pace. When the last one leaves, the flight ends and its sequences are freed.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum

from app.errors import ClientDisconnected
from app.generation.completion import Chunk, Completed, FinishedText
from app.generation.preparation import PreparedRequest
from app.text.codec import TextCodec
from app.text.sequence_text import SequenceText
from decoding.base import Alternatives, FinishReason, Hypothesis
from engine.messages import Event, RequestFailed, RequestFinished, TokenEvent


class CacheOutcome(StrEnum):
    """What the response cache did for a request."""

    HIT = "hit"  # answered by a finished generation, or by one already under way
    MISS = "miss"
    BYPASS = "bypass"


class Flight:
    """The state of one generation. Events and the leaving of subscriptions change it."""

    def __init__(
        self,
        prepared: PreparedRequest,
        *,
        codec: TextCodec,
        seed: int,
        clock: Callable[[], float],
        on_end: Callable[["Flight"], None],
    ) -> None:
        self.prepared = prepared
        self.seed = seed
        self.chunks: list[Chunk] = []
        self.completed: Completed | None = None
        self.error: Exception | None = None
        self.submitted_at = clock()
        self.first_token_at: float | None = None
        self.inter_token_seconds: list[float] = []
        self.num_billed = 0  # tokens that some key has been charged for
        self._last_token_at: dict[int, float] = {}  # by sequence index
        self._codec = codec
        self._clock = clock
        self._on_end = on_end
        self._texts: dict[int, SequenceText] = {}
        self._subscriptions: dict[Subscription, None] = {}

    def bill(self) -> int:
        """Tokens that no key was charged for yet; from now on one is."""
        num_new = self.num_tokens - self.num_billed
        self.num_billed += num_new
        return num_new

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.completed is not None or self.error is not None

    @property
    def num_tokens(self) -> int:
        """Tokens taken so far, those of the prompt included.

        Rows that show nothing of themselves, such as beams that lost, count as the longest that
        does: they were computed beside it.
        """
        lengths: dict[int, int] = {}
        for chunk in self.chunks:
            lengths[chunk.index] = lengths.get(chunk.index, 0) + len(chunk.token_ids)
        num_hidden = max(0, self.prepared.num_rows - len(lengths))
        longest = max(lengths.values(), default=0)
        return self.prepared.num_prompt_tokens + sum(lengths.values()) + num_hidden * longest

    def receive(self, event: Event) -> None:
        """Take an event of the engine."""
        match event:
            case TokenEvent():
                self._push(event)
            case RequestFinished():
                self._complete(event)
            case RequestFailed():
                self.fail(event.error)
        self._wake()

    def fail(self, error: Exception) -> None:
        """End without an answer: everybody who waits gets `error`. Nothing if it has ended."""
        if self.has_ended:
            return
        self.error = error
        self._on_end(self)
        self._wake()

    def join(self, subscription: "Subscription") -> None:
        """Count somebody in."""
        self._subscriptions[subscription] = None

    def leave(self, subscription: "Subscription") -> None:
        """Count somebody out; when nobody is left, the generation is given up."""
        self._subscriptions.pop(subscription, None)
        if not self._subscriptions:
            self.fail(ClientDisconnected("Nobody waits for this generation any more."))

    def replay(self, completed: Completed) -> "Flight":
        """End at once with an answer that was found in the cache."""
        self.chunks = completed.as_chunks()
        self.completed = completed
        return self

    def _push(self, event: TokenEvent) -> None:
        self._note_time(event)
        piece = self._text(event.index).push(event.token_ids)
        self.chunks.append(
            Chunk(
                index=event.index,
                text=piece,
                token_ids=event.token_ids,
                logprobs=event.logprobs,
                alternatives=event.alternatives,
            )
        )

    def _note_time(self, event: TokenEvent) -> None:
        now = self._clock()
        if self.first_token_at is None:
            self.first_token_at = now
        last = self._last_token_at.get(event.index)
        if last is not None:  # tokens of beams become certain several at a time
            num_tokens = len(event.token_ids)
            self.inter_token_seconds += [(now - last) / num_tokens] * num_tokens
        self._last_token_at[event.index] = now

    def _complete(self, event: RequestFinished) -> None:
        sequences = tuple(
            self._finish_sequence(index, hypothesis, event.alternatives[index : index + 1])
            for index, hypothesis in enumerate(event.sequences)
        )
        self.completed = Completed(
            sequences=sequences,
            seed=self.seed,
            timings=event.timings,
            prompt_scores=event.prompt_scores,
            trace=event.trace,
        )
        self._on_end(self)

    def _finish_sequence(
        self,
        index: int,
        hypothesis: Hypothesis,
        alternatives: Sequence[tuple[Alternatives, ...]],
    ) -> FinishedText:
        text, likely = self._text(index), alternatives[0] if alternatives else ()
        num_told = text.num_tokens
        rest = hypothesis.token_ids[num_told:]
        piece = text.push(rest) + text.finish()
        if piece or rest:
            self.chunks.append(
                Chunk(
                    index=index,
                    text=piece,
                    token_ids=rest,
                    logprobs=hypothesis.logprobs[num_told:],
                    alternatives=likely[num_told:],
                )
            )
        return FinishedText(
            text=text.text,
            token_ids=hypothesis.token_ids,
            logprobs=hypothesis.logprobs,
            finish_reason=FinishReason.STOP if text.has_stopped else hypothesis.finish_reason,
            score=hypothesis.score,
            alternatives=likely,
        )

    def _text(self, index: int) -> SequenceText:
        if index not in self._texts:
            codec = self._codec.showing(self.prepared.shown_ids)
            self._texts[index] = SequenceText(
                codec,
                context=self.prepared.context,
                stops=self.prepared.request.stop,
                keeps_stop=self.prepared.request.keeps_stop,
            )
        return self._texts[index]

    def _wake(self) -> None:
        for subscription in self._subscriptions:
            subscription.wake()


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
