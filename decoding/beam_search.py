"""The search that the beam strategies share: extend, retire what ends, know when to give up.

Follows `transformers.GenerationMixin._beam_search` (5.x) in every rule: candidates are ranked by
summed processed log-probability, finished ones by that sum divided by length ** length_penalty,
and `early_stopping` decides when to give up. Each strategy's decoder drives one search, or one a
group; what they send while searching is in `decoding.beam_stream`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from decoding.base import Candidate, Continuation, DecodingRow, FinishReason, Hypothesis, Task
from decoding.beam_strategy import BeamStrategy
from decoding.considered import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Reach:
    """A live beam and a candidate for it, before anything is made of them."""

    parent: int  # position of the beam among the rows that the search was given
    candidate: Candidate
    score: float  # summed processed log-probabilities, not length-penalised

    def verdict(self, outcome: Outcome, final_score: float | None = None) -> Verdict:
        """Why it does not go on."""
        return Verdict(
            parent=self.parent,
            token_id=self.candidate.token_id,
            outcome=outcome,
            score=self.score,
            final_score=final_score,
        )


@dataclass(frozen=True, slots=True)
class Extension(Reach):
    """A live beam and one more token."""

    generated_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason | None

    def continuation(self, index: int) -> Continuation:
        """The row that this becomes, with the given index."""
        return Continuation(
            parent=self.parent,
            token_id=self.candidate.token_id,
            logprob=self.candidate.logprob,
            index=index,
            score=self.score,
        )


class BeamSearch:
    """One search of `width` beams. Its decoder is the only one to write to it."""

    def __init__(self, rules: BeamStrategy, task: Task, *, width: int) -> None:
        self._rules = rules
        self._task = task
        self._width = width
        # Enough candidates that `width` of them go on even if each beam meets every end token.
        self.num_kept = max(2, 1 + len(task.eos_token_ids)) * width
        self._scores: tuple[float, ...] = (0.0,)  # of the live rows, in row order
        self.finished: list[Hypothesis] = []  # best first, at most `width`
        self.verdicts: list[Verdict] = []  # of this step: why some do not go on

    def reaches(self, found: Sequence[Sequence[Candidate]]) -> Iterable[Reach]:
        """Every beam with every candidate that is not ruled out, beam by beam."""
        return (
            Reach(parent, candidate, self._scores[parent] + candidate.score)
            for parent, candidates in enumerate(found)
            for candidate in candidates
            if candidate.score > -math.inf
        )

    def best(
        self, reaches: Iterable[Reach], by: Callable[[Reach], float] | None = None
    ) -> list[Reach]:
        """As many of the best as are kept, best first; by score unless something else is given."""
        order = by or _score
        return sorted(reaches, key=lambda reach: -order(reach))[: self.num_kept]

    def extend(self, rows: Sequence[DecodingRow], reaches: Iterable[Reach]) -> list[Extension]:
        """What the beams become, in the same order; ended ones know why. Begins a step."""
        self.verdicts = []
        return [self._extension(rows[reach.parent], reach) for reach in reaches]

    def settle(self, kept: Sequence[Extension]) -> list[Extension]:
        """Retire what ended among the first `width`, and go on with the best of the rest.

        Returns the live beams, best first; none if the search is over.
        """
        self.retire(kept[: self._width])
        self.give_up(each for each in kept[self._width :] if each.finish_reason is not None)
        live = [extension for extension in kept if extension.finish_reason is None]
        return self.go_on(sorted(live, key=lambda extension: -extension.score)[: self._width])

    def retire(self, extensions: Iterable[Extension]) -> None:
        """Finish those that ended; of all finished ones, the best `width` stay."""
        for each in extensions:
            if each.finish_reason is not None:
                hypothesis = self._hypothesis(each)
                self.finished.append(hypothesis)
                self.verdicts.append(each.verdict(Outcome.FINISHED, hypothesis.score))
        self.finished.sort(key=descending_score)
        del self.finished[self._width :]

    def give_up(
        self, extensions: Iterable[Extension], why: Outcome = Outcome.ENDED_TOO_LOW
    ) -> None:
        """Tell why these neither finish nor go on."""
        self.verdicts += [each.verdict(why) for each in extensions]

    def go_on(self, live: list[Extension]) -> list[Extension]:
        """Continue with these, best first, or with none of them if they cannot win any more."""
        if not live or not self._can_improve(live[0]):
            self.give_up(live, Outcome.HOPELESS)
            return []
        self._scores = tuple(extension.score for extension in live)
        return live

    def so_far(self, rows: Sequence[DecodingRow]) -> list[Hypothesis]:
        """The live beams as if they ended here, in row order; changes nothing."""
        return [
            self._scored(tuple(row.generated_ids), tuple(row.logprobs), score, FinishReason.TIMEOUT)
            for row, score in zip(rows, self._scores, strict=True)
        ]

    def _extension(self, row: DecodingRow, reach: Reach) -> Extension:
        generated_ids = (*row.generated_ids, reach.candidate.token_id)
        return Extension(
            parent=reach.parent,
            candidate=reach.candidate,
            score=reach.score,
            generated_ids=generated_ids,
            logprobs=(*row.logprobs, reach.candidate.logprob),
            finish_reason=self._task.finish_reason(generated_ids),
        )

    def _hypothesis(self, extension: Extension) -> Hypothesis:
        assert extension.finish_reason is not None, "only what ended is finished"
        return self._scored(
            extension.generated_ids, extension.logprobs, extension.score, extension.finish_reason
        )

    def _scored(
        self,
        token_ids: tuple[int, ...],
        logprobs: tuple[float, ...],
        score: float,
        reason: FinishReason,
    ) -> Hypothesis:
        length = max(1, len(token_ids))  # nothing at all is worth what it sums up to
        return Hypothesis(
            token_ids=token_ids,
            logprobs=logprobs,
            finish_reason=reason,
            score=score / length**self._rules.length_penalty,
        )

    def _can_improve(self, best_live: Extension) -> bool:
        if len(self.finished) < self._width:
            return True
        if self._rules.early_stopping is True:
            return False
        penalty = self._rules.length_penalty
        length = len(best_live.generated_ids)
        if self._rules.early_stopping == "never" and penalty > 0:
            length = self._task.max_new_tokens
        best_possible: float = best_live.score / length**penalty
        return best_possible > -descending_score(self.finished[-1])


def descending_score(hypothesis: Hypothesis) -> float:
    """A sort key that puts the best finished sequence first."""
    assert hypothesis.score is not None, "beams always score what they finish"
    return -hypothesis.score


def _score(reach: Reach) -> float:
    return reach.score
