"""The `beam` strategy: the best whole sequences, searched breadth-first with a fixed width.

Its rules, and so its tokens and scores, are those of `transformers.GenerationMixin._beam_search`
(5.x); see `decoding.beam_search`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import Best
from decoding.base import Candidate, Decision, DecodingRow, Task
from decoding.beam_search import BeamSearch, descending_score
from decoding.beam_strategy import BeamStrategy
from decoding.beam_stream import BeamStream
from decoding.params import Processing


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam(BeamStrategy):
    """Search for the most likely whole sequences with `num_beams` alive at a time."""

    name: ClassVar[str] = "beam"
    is_deterministic: ClassVar[bool] = True

    def start(self, task: Task) -> "BeamDecoder":
        """Begin decoding one request."""
        return BeamDecoder(self, task)


class BeamDecoder:
    """The search of one request. Only `advance` writes its state."""

    def __init__(self, beam: Beam, task: Task) -> None:
        self._search = BeamSearch(beam, task, width=beam.num_beams)
        self._stream = BeamStream(num_results=beam.num_results)
        self._ask = Best(Processing(), count=self._search.num_kept)

    @property
    def ask(self) -> Best:
        """Each beam's best candidates: together they hold the best of all beams."""
        return self._ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Extend the live beams by one token, retire those that end, stop when nothing can win."""
        search = self._search
        live = search.settle(search.extend(rows, search.best(search.reaches(found))))
        return self._stream.decision(live, search.finished, search.verdicts)

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """The best of what has ended and of the live beams as they are."""
        ranked = [*self._search.finished, *self._search.so_far(rows)]
        return self._stream.end(sorted(ranked, key=descending_score))
