"""The `best_of` strategy: draw several samples, return those that the model finds most likely.

The samples are those that `sample` draws with the same seed; they are ranked by their mean
log-probability under the model, before any processing, as `best_of` of OpenAI's first completions
endpoint did. Which ones win is open until the last sample ends, so nothing is streamed before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.ask import Draw
from decoding.base import Candidate, Decision, DecodingRow, Emission, Hypothesis, Task
from decoding.errors import InvalidParameter
from decoding.independent import IndependentDecoder
from decoding.params import MAX_SEQUENCES
from decoding.sample import Sample

NumDrawn = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many samples to draw and choose among.")
]
NumReturned = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many of the samples to return, at most best_of.")
]


@dataclass(frozen=True, kw_only=True)
class BestOf(Sample):
    """Draw `best_of` samples; return those with the highest mean log-probability, best first."""

    best_of: NumDrawn = 4
    num_return_sequences: NumReturned = 1

    name: ClassVar[str] = "best_of"

    def __post_init__(self) -> None:
        Sample.__post_init__(self)
        if self.num_return_sequences > self.best_of:
            raise InvalidParameter(
                "num_return_sequences",
                f"{self.num_return_sequences} sequences cannot come from {self.best_of} samples; "
                "raise best_of or ask for fewer",
            )

    @property
    def num_rows(self) -> int:
        """One row a sample that is drawn."""
        return self.best_of

    def start(self, task: Task) -> "BestOfDecoder":  # type: ignore[override]  # another decoder
        """Begin decoding one request."""
        return BestOfDecoder(self, task)


class BestOfDecoder:
    """Draws side by side and ranks at the end. Only `advance` writes its state."""

    def __init__(self, strategy: BestOf, task: Task) -> None:
        plain = Sample.start(strategy, task).ask
        assert isinstance(plain, Draw), "samples are drawn"
        ask = replace(plain, count=strategy.best_of)
        self._samples = IndependentDecoder(ask=ask, task=task)
        self._num_results = strategy.num_results

    @property
    def ask(self) -> Draw:
        """One token a sample, save in the first step, where the prompt's row forks."""
        ask = self._samples.ask
        assert isinstance(ask, Draw), "samples are drawn"
        return ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Continue every sample; when the last has ended, choose."""
        decision = self._samples.advance(rows, found)
        if not decision.results:
            return replace(decision, emissions=())
        return self._choose(decision.results)

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """Choose among the samples as far as they have come."""
        return self._choose(self._samples.cut_short(rows).results)

    def _choose(self, results: Sequence[Hypothesis]) -> Decision:
        scored = [replace(each, score=_mean_logprob(each)) for each in results]
        ranked = sorted(scored, key=_mean_logprob, reverse=True)[: self._num_results]
        return Decision(
            results=tuple(ranked), emissions=tuple(map(_whole, range(len(ranked)), ranked))
        )


def _mean_logprob(sample: Hypothesis) -> float:
    return sum(sample.logprobs) / max(1, len(sample.logprobs))


def _whole(index: int, result: Hypothesis) -> Emission:
    return Emission(index=index, token_ids=result.token_ids, logprobs=result.logprobs)
