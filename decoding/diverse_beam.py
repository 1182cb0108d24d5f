"""The `diverse_beam` strategy: groups of beams, each kept away from what the groups before chose.

Vijayakumar et al. 2016, arXiv:1610.02424, with Hamming diversity, in the rules that `transformers`
had until it moved group beam search out: in every step the groups go in order, a token loses
`diversity_penalty` for every beam of an earlier group that goes on with it in this step, the loss
stays in the score, and each group retires and gives up by itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.ask import Best
from decoding.base import Candidate, Decision, DecodingRow, Task
from decoding.beam_search import BeamSearch, Extension, descending_score
from decoding.beam_strategy import BeamStrategy
from decoding.beam_stream import BeamStream
from decoding.considered import Outcome, Verdict
from decoding.errors import InvalidParameter
from decoding.params import MAX_SEQUENCES, Processing

NumGroups = Annotated[
    int, Ge(1), Le(MAX_SEQUENCES), Doc("How many groups the beams form; num_beams is a multiple.")
]
DiversityPenalty = Annotated[
    float,
    Ge(0.0),
    Le(100.0),
    Doc("What a token loses for every beam of an earlier group that chose it in this step."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiverseBeam(BeamStrategy):
    """Beam search in groups that are kept apart, for answers that differ."""

    num_beam_groups: NumGroups = 2
    diversity_penalty: DiversityPenalty = 0.5

    name: ClassVar[str] = "diverse_beam"
    is_deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        BeamStrategy.__post_init__(self)
        if self.num_beams % self.num_beam_groups:
            raise InvalidParameter(
                "num_beam_groups",
                f"{self.num_beams} beams do not form {self.num_beam_groups} groups of one size; "
                "make num_beams a multiple of it",
            )

    def start(self, task: Task) -> "DiverseBeamDecoder":
        """Begin decoding one request."""
        return DiverseBeamDecoder(self, task)


class DiverseBeamDecoder:
    """The searches of one request, one a group. Only `advance` writes its state."""

    def __init__(self, strategy: DiverseBeam, task: Task) -> None:
        width = strategy.num_beams // strategy.num_beam_groups
        self._penalty = strategy.diversity_penalty
        self._searches = [
            BeamSearch(strategy, task, width=width) for _ in range(strategy.num_beam_groups)
        ]
        self._sizes = [0] * strategy.num_beam_groups  # live rows a group, in order; 0: it is done
        self._stream = BeamStream(num_results=strategy.num_results)
        # The penalty reaches no more tokens than earlier groups have beams, so of so many more
        # candidates the best stay the best.
        count = self._searches[0].num_kept + strategy.num_beams - width
        self._ask = Best(Processing(), count=count)
        self._is_first = True

    @property
    def ask(self) -> Best:
        """Each beam's best candidates, with some to spare for those that the penalty moves."""
        return self._ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Extend the groups in order, each away from what those before chose."""
        chosen: Counter[int] = Counter()  # tokens that beams of the groups so far go on with
        live: list[Extension] = []
        verdicts: list[Verdict] = []
        places = self._places()
        self._is_first = False
        for at, (search, place) in enumerate(zip(self._searches, places, strict=True)):
            going_on = self._advance_group(search, rows[place], found[place], chosen)
            chosen.update(each.candidate.token_id for each in going_on)
            told = search.verdicts if rows[place] else []
            live += [replace(each, parent=each.parent + place.start) for each in going_on]
            verdicts += [replace(each, parent=each.parent + place.start) for each in told]
            self._sizes[at] = len(going_on)
        finished = sorted(
            (each for search in self._searches for each in search.finished), key=descending_score
        )
        return self._stream.decision(live, finished, verdicts)

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """The best of what has ended and of the live beams as they are, over all groups."""
        ranked = [each for search in self._searches for each in search.finished]
        if self._is_first:  # all groups have the prompt's row
            ranked += self._searches[0].so_far(rows)
        else:
            for search, place in zip(self._searches, self._places(), strict=True):
                ranked += search.so_far(rows[place]) if rows[place] else []
        return self._stream.end(sorted(ranked, key=descending_score))

    def _places(self) -> list[slice]:
        """Where each group's rows stand; in the first step all groups have the prompt's row."""
        if self._is_first:
            return [slice(0, 1)] * len(self._searches)
        ends = accumulate(self._sizes)
        return [slice(end - size, end) for end, size in zip(ends, self._sizes, strict=True)]

    def _advance_group(
        self,
        search: BeamSearch,
        rows: Sequence[DecodingRow],
        found: Sequence[Sequence[Candidate]],
        chosen: Counter[int],
    ) -> list[Extension]:
        if not rows:
            return []
        kept_apart = [
            [
                replace(each, score=each.score - self._penalty * chosen[each.token_id])
                for each in candidates
            ]
            for candidates in found
        ]
        reaches = list(search.reaches(kept_apart))
        best = search.best(reaches)
        penalised = [each for each in reaches if self._penalty * chosen[each.candidate.token_id]]
        live = search.settle(search.extend(rows, best))
        search.verdicts += [each.verdict(Outcome.PENALISED) for each in penalised]
        return live
