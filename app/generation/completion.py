"""What a generation gives: pieces of text as they come, then the whole answer.

A flight makes them of engine events; the response cache keeps `Completed`; `answers.py` and the
event stream present them. They hold nothing of how one client wants to see them.
"""

from dataclasses import dataclass

from decoding.base import Alternatives, FinishReason, TokenScore
from engine.messages import Timings
from engine.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of one sequence: new tokens, and the text that they made certain."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    alternatives: tuple[Alternatives, ...] = ()  # at each place, if asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedText:
    """A finished sequence, its text cut at the first stop string."""

    text: str
    token_ids: tuple[int, ...]  # all that were generated, those after the cut included
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    score: float | None  # beams only
    alternatives: tuple[Alternatives, ...] = ()  # at each place, if asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A whole answer: sequences in order, beams best first, and the seed that gave them."""

    sequences: tuple[FinishedText, ...]
    seed: int
    timings: Timings
    prompt_scores: tuple[TokenScore, ...] = ()  # of its tokens but the first, if asked for
    trace: Trace | None = None  # if asked for

    def as_chunks(self) -> list[Chunk]:
        """The answer as if it had come in one piece a sequence."""
        return [
            Chunk(
                index=index,
                text=sequence.text,
                token_ids=sequence.token_ids,
                logprobs=sequence.logprobs,
                alternatives=sequence.alternatives,
            )
            for index, sequence in enumerate(self.sequences)
        ]
