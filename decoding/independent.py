"""The decoder of every strategy whose rows do not interact: greedy and all plain sampling.

Each row takes its one candidate and goes on until it finishes; the request is done when the
last row is. Beams, whose rows compete, have a decoder of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from decoding.ask import Draw, MostLikely
from decoding.base import (
    Candidate,
    Continuation,
    Decision,
    DecodingRow,
    Emission,
    FinishReason,
    Hypothesis,
    Task,
)


class IndependentDecoder:
    """Continues rows side by side. Only `advance` writes its state."""

    def __init__(self, *, ask: MostLikely | Draw, task: Task) -> None:
        self._ask = ask
        self._task = task
        self._results: dict[int, Hypothesis] = {}
        self._live: set[int] = set()  # sequence indices

    @property
    def ask(self) -> MostLikely | Draw:
        """One candidate a row, save in the first step, where the prompt's row forks."""
        return self._ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Append its candidates to each row; these may be some of the live rows only."""
        live, emissions = [], []
        for parent, index, candidate in _steps(rows, found):
            emissions.append(_emission(index, candidate))
            if self._finish(rows[parent], index, candidate):
                self._live.discard(index)
            else:
                self._live.add(index)
                live.append(_continuation(parent, index, candidate))
        if isinstance(self._ask, Draw):
            self._ask = replace(self._ask, count=1)
        results = () if self._live else tuple(self._results[i] for i in sorted(self._results))
        return Decision(live=tuple(live), emissions=tuple(emissions), results=results)

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """What has ended, and the live rows as they are. All of it has been sent."""
        results = self._results | {row.index: so_far(row) for row in rows}
        if not self._live and isinstance(self._ask, Draw):  # the prompt's row stands for all
            results = {index: so_far(rows[0]) for index in range(self._ask.count)}
        return Decision(results=tuple(results[index] for index in sorted(results)))

    def _finish(self, row: DecodingRow, index: int, candidate: Candidate) -> bool:
        num_generated = len(row.generated_ids) + 1
        if not self._task.may_end(candidate.token_id, num_generated):
            return False
        generated_ids = (*row.generated_ids, candidate.token_id)
        reason = self._task.finish_reason(generated_ids)
        if reason is None:
            return False
        self._results[index] = Hypothesis(
            token_ids=generated_ids,
            logprobs=(*row.logprobs, candidate.logprob),
            finish_reason=reason,
        )
        return True


def so_far(row: DecodingRow) -> Hypothesis:
    """What a row holds, of a request whose time is up."""
    return Hypothesis(
        token_ids=tuple(row.generated_ids),
        logprobs=tuple(row.logprobs),
        finish_reason=FinishReason.TIMEOUT,
    )


def _steps(
    rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
) -> Iterator[tuple[int, int, Candidate]]:
    for parent, row in enumerate(rows):
        for offset, candidate in enumerate(found[parent]):
            yield parent, row.index + offset, candidate


def _continuation(parent: int, index: int, candidate: Candidate) -> Continuation:
    return Continuation(
        parent=parent, token_id=candidate.token_id, logprob=candidate.logprob, index=index
    )


def _emission(index: int, candidate: Candidate) -> Emission:
    return Emission(index=index, token_ids=(candidate.token_id,), logprobs=(candidate.logprob,))
