"""The `beam_sample` strategy: beam search whose candidates are drawn instead of taken by rank.

The rules are those of `transformers.GenerationMixin._beam_search` with `do_sample` (5.x): each step
draws candidates without replacement from the processed distribution of all beams together, the
first `num_beams` drawn may finish, and the best of the others go on. Two things differ: the draws
belong to (seed, beam, position), and truncation keeps what it says, where transformers keeps one
token more than there are end tokens; so a step may find fewer candidates than it has beams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import DrawDistinct
from decoding.base import Candidate, Decision, DecodingRow, Task
from decoding.beam_search import BeamSearch, Reach, descending_score
from decoding.beam_strategy import BeamStrategy
from decoding.beam_stream import BeamStream
from decoding.sampling import EveryFilter, processing_of


@dataclass(frozen=True, kw_only=True)
class BeamSample(EveryFilter, BeamStrategy):
    """Beam search over random draws: each step draws the continuations of all beams together."""

    name: ClassVar[str] = "beam_sample"
    is_deterministic: ClassVar[bool] = False

    def __post_init__(self) -> None:
        EveryFilter.__post_init__(self)
        BeamStrategy.__post_init__(self)

    def start(self, task: Task) -> "BeamSampleDecoder":
        """Begin decoding one request."""
        return BeamSampleDecoder(self, task)


class BeamSampleDecoder:
    """The search of one request. Only `advance` writes its state."""

    def __init__(self, strategy: BeamSample, task: Task) -> None:
        self._search = BeamSearch(strategy, task, width=strategy.num_beams)
        self._stream = BeamStream(num_results=strategy.num_results)
        self._ask = DrawDistinct(processing_of(strategy), task.seed, count=self._search.num_kept)

    @property
    def ask(self) -> DrawDistinct:
        """Draws of each beam: with the beams' own scores added they are draws from all beams."""
        return self._ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Extend the beams by what was drawn, retire those that end, stop when nothing can win."""
        search = self._search
        drawn = search.best(search.reaches(found), by=_order_of_draws)
        live = search.settle(search.extend(rows, drawn))
        return self._stream.decision(live, search.finished, search.verdicts)

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """The best of what has ended and of the live beams as they are."""
        ranked = [*self._search.finished, *self._search.so_far(rows)]
        return self._stream.end(sorted(ranked, key=descending_score))


def _order_of_draws(reach: Reach) -> float:
    return reach.score + reach.candidate.noise
