"""The `beam` strategy: the best whole sequences, searched breadth-first with a fixed width.

Follows `transformers.GenerationMixin._beam_search` (5.x) in every rule, so tokens and scores
are the same: candidates are ranked by summed processed log-probability, finished ones by that
sum divided by length ** length_penalty, and `early_stopping` decides when to give up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.base import (
    Best,
    Candidate,
    Continuation,
    Decision,
    DecodingRow,
    Emission,
    FinishReason,
    Hypothesis,
    Task,
)
from decoding.errors import InvalidParameter
from decoding.params import MAX_SEQUENCES, Processing, RepetitionPenalty

NumBeams = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many sequences the search keeps alive.")
]
LengthPenalty = Annotated[
    float,
    Ge(-10.0),
    Le(10.0),
    Doc("A finished score is the sum of log-probabilities over length to this power."),
]
EarlyStopping = Annotated[
    bool | Literal["never"],
    Doc(
        "true: stop at num_beams finished sequences. false: stop when a better one is unlikely. "
        '"never": stop only when no better one is possible.'
    ),
]
NumReturned = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many of the best beams to return, at most num_beams.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """Search for the most likely whole sequences with `num_beams` alive at a time."""

    num_beams: NumBeams = 4
    length_penalty: LengthPenalty = 1.0
    early_stopping: EarlyStopping = False
    num_return_sequences: NumReturned = 1
    repetition_penalty: RepetitionPenalty = 1.0

    name: ClassVar[str] = "beam"
    is_deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_return_sequences > self.num_beams:
            raise InvalidParameter(
                "num_return_sequences",
                f"{self.num_return_sequences} sequences cannot come from {self.num_beams} beams; "
                "raise num_beams or ask for fewer",
            )

    @property
    def num_rows(self) -> int:
        """One row a beam."""
        return self.num_beams

    @property
    def num_results(self) -> int:
        """The best beams asked for."""
        return self.num_return_sequences

    def start(self, task: Task) -> "BeamDecoder":
        """Begin decoding one request."""
        return BeamDecoder(self, task)


@dataclass(frozen=True, slots=True)
class _Extension:
    """A live beam and one more token."""

    parent: int
    candidate: Candidate
    score: float  # summed processed log-probabilities, not length-penalised
    generated_ids: tuple[int, ...]
    finish_reason: FinishReason | None


class BeamDecoder:
    """The search of one request. Only `advance` writes its state."""

    def __init__(self, beam: Beam, task: Task) -> None:
        self._beam = beam
        self._task = task
        # Enough candidates that num_beams of them go on even if each beam meets every end token.
        self._num_kept = max(2, 1 + len(task.eos_token_ids)) * beam.num_beams
        self._scores: tuple[float, ...] = (0.0,)  # of the live rows, in row order
        self._finished: list[Hypothesis] = []  # best first, at most num_beams
        self._num_emitted = 0

    @property
    def ask(self) -> Best:
        """Each beam's best candidates: together they hold the best of all beams."""
        return Best(
            Processing(repetition_penalty=self._beam.repetition_penalty), count=self._num_kept
        )

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Extend the live beams by one token, retire those that end, stop when nothing can win."""
        kept = self._extend(rows, found)
        self._retire(kept, rows)
        live = [extension for extension in kept if extension.finish_reason is None]
        live = live[: self._beam.num_beams]
        self._scores = tuple(extension.score for extension in live)
        if not live or not self._can_improve(live):
            return self._finish()
        return Decision(
            live=tuple(_continuation(rank, extension) for rank, extension in enumerate(live)),
            emissions=self._emit_agreed(live, rows),
        )

    def _extend(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> list[_Extension]:
        ranked = sorted(
            (
                (self._scores[parent] + candidate.score, parent, candidate)
                for parent, candidates in enumerate(found)
                for candidate in candidates
            ),
            key=lambda entry: -entry[0],
        )
        extensions = []
        for score, parent, candidate in ranked[: self._num_kept]:
            generated_ids = (*rows[parent].generated_ids, candidate.token_id)
            reason = self._task.finish_reason(generated_ids)
            extensions.append(_Extension(parent, candidate, score, generated_ids, reason))
        return extensions

    def _retire(self, kept: Sequence[_Extension], rows: Sequence[DecodingRow]) -> None:
        # Only the num_beams best may finish; the rest are there so that enough beams go on.
        for extension in kept[: self._beam.num_beams]:
            if extension.finish_reason is None:
                continue
            length = len(extension.generated_ids)
            logprobs = (*rows[extension.parent].logprobs, extension.candidate.logprob)
            self._finished.append(
                Hypothesis(
                    token_ids=extension.generated_ids,
                    logprobs=logprobs,
                    finish_reason=extension.finish_reason,
                    score=extension.score / length**self._beam.length_penalty,
                )
            )
        self._finished.sort(key=_descending_score)
        del self._finished[self._beam.num_beams :]

    def _can_improve(self, live: Sequence[_Extension]) -> bool:
        if len(self._finished) < self._beam.num_beams:
            return True
        if self._beam.early_stopping is True:
            return False
        penalty = self._beam.length_penalty
        length = len(live[0].generated_ids)
        if self._beam.early_stopping == "never" and penalty > 0:
            length = self._task.max_new_tokens
        best_possible: float = live[0].score / length**penalty
        return best_possible > -_descending_score(self._finished[-1])

    def _emit_agreed(
        self, live: Sequence[_Extension], rows: Sequence[DecodingRow]
    ) -> tuple[Emission, ...]:
        """Tokens that every sequence still able to win starts with, not sent before."""
        if self._beam.num_return_sequences > 1:
            return ()
        candidates = [extension.generated_ids for extension in live]
        candidates += [hypothesis.token_ids for hypothesis in self._finished]
        agreed = _common_prefix_length(candidates)
        first, new = self._num_emitted, live[0].generated_ids[self._num_emitted : agreed]
        if not new:
            return ()
        self._num_emitted = agreed
        logprobs = (*rows[live[0].parent].logprobs, live[0].candidate.logprob)
        return (Emission(index=0, token_ids=new, logprobs=logprobs[first:agreed]),)

    def _finish(self) -> Decision:
        results = tuple(self._finished[: self._beam.num_return_sequences])
        emissions = []
        for index, result in enumerate(results):
            first = self._num_emitted if index == 0 else 0
            emissions.append(
                Emission(
                    index=index,
                    token_ids=result.token_ids[first:],
                    logprobs=result.logprobs[first:],
                )
            )
        return Decision(emissions=tuple(emissions), results=results)


def _continuation(rank: int, extension: _Extension) -> Continuation:
    candidate = extension.candidate
    return Continuation(
        parent=extension.parent,
        token_id=candidate.token_id,
        logprob=candidate.logprob,
        index=rank,
    )


def _descending_score(hypothesis: Hypothesis) -> float:
    assert hypothesis.score is not None, "beams always score what they finish"
    return -hypothesis.score


def _common_prefix_length(sequences: Sequence[tuple[int, ...]]) -> int:
    first, last = min(sequences), max(sequences)
    for position, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return position
    return min(len(first), len(last))
