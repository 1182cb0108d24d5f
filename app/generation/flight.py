"""One run of the engine, whoever waits for it. Lives on the event loop.

`flights.py` starts a `Flight` for each request that the caches cannot answer; identical requests
share one. Engine events come in through `receive`; each follower (`subscription.py`) is woken and
reads the growing answer at its own pace. When the last one leaves, the flight ends and its
sequences are freed.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from app.errors import ClientDisconnected
from app.generation.completion import Chunk, Completed, FinishedText
from app.generation.prepared_request import PreparedRequest
from app.text.codec import TextCodec
from app.text.sequence_text import SequenceText
from decoding.base import Alternatives, FinishReason, Hypothesis
from engine.messages import Event, RequestFailed, RequestFinished, TokenEvent


class Follower(Protocol):
    """Somebody who waits for a flight."""

    def wake(self) -> None:
        """There is something new."""


class Flight:
    """The state of one generation. Events and the leaving of followers change it."""

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
        self._followers: dict[Follower, None] = {}

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

    def join(self, follower: Follower) -> None:
        """Count somebody in."""
        self._followers[follower] = None

    def leave(self, follower: Follower) -> None:
        """Count somebody out; when nobody is left, the generation is given up."""
        self._followers.pop(follower, None)
        if not self._followers:
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
        for follower in self._followers:
            follower.wake()
