"""The `mirostat` strategy: random draws that hold the surprise of the text at a level.

Basu et al. 2021, arXiv:2007.14966, as llama.cpp's `mirostat` samplers 1 and 2: tokens that surprise
more than a bound are dropped, and after each token the bound moves by how far that token's surprise
was from the wanted one. The bound starts at twice the wanted surprise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt, Le
from typing_extensions import Doc

from decoding.ask import Draw
from decoding.base import Candidate, Decision, DecodingRow, Task
from decoding.independent import IndependentDecoder
from decoding.params import Processing, Temperature
from decoding.sampling import SamplingStrategy

Version = Annotated[
    Literal[1, 2], Doc("1 estimates how many tokens to keep by Zipf's law; 2 bounds each surprise.")
]
Tau = Annotated[float, Gt(0.0), Le(30.0), Doc("The surprise that the text is held at, in bits.")]
Eta = Annotated[
    float, Gt(0.0), Le(1.0), Doc("How fast the bound follows: the share of each error it moves by.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirostat(SamplingStrategy):
    """Draw so that the text's surprise stays near `mirostat_tau` bits a token."""

    mirostat: Version = 2
    mirostat_tau: Tau = 5.0
    mirostat_eta: Eta = 0.1
    temperature: Temperature = 1.0

    name: ClassVar[str] = "mirostat"
    has_independent_rows: ClassVar[bool] = False  # what a token asks depends on the one before

    def start(self, task: Task) -> "MirostatDecoder":  # type: ignore[override]  # another decoder
        """Begin decoding one request."""
        return MirostatDecoder(self, task)


class MirostatDecoder:
    """Draws side by side, each sequence under its own bound. Only `advance` writes its state."""

    def __init__(self, strategy: Mirostat, task: Task) -> None:
        self._strategy = strategy
        processing = Processing(
            temperature=strategy.temperature,
            mirostat=strategy.mirostat,
            mirostat_mu=2 * strategy.mirostat_tau,
        )
        first = Draw(processing, task.seed, strategy.num_return_sequences)
        self._samples = IndependentDecoder(ask=first, task=task)
        self._bounds: dict[int, float] = {}  # in bits, by sequence index
        self._asks: tuple[Draw, ...] = (first,)  # in the order of the live rows

    @property
    def ask(self) -> tuple[Draw, ...]:
        """One token a row, under the row's bound; in the first step the prompt's row forks."""
        return self._asks

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Continue every sample, and move its bound by the surprise of what was drawn."""
        for row, candidates in zip(rows, found, strict=True):
            for offset, candidate in enumerate(candidates):
                self._follow(row.index + offset, candidate)
        decision = self._samples.advance(rows, found)
        first = replace(self._asks[0], count=1)
        self._asks = tuple(
            replace(
                first, processing=replace(first.processing, mirostat_mu=self._bounds[child.index])
            )
            for child in decision.live
        )
        return decision

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """The samples as far as they have come."""
        return self._samples.cut_short(rows)

    def _follow(self, index: int, drawn: Candidate) -> None:
        strategy = self._strategy
        surprise = -drawn.score / math.log(2)
        bound = self._bounds.get(index, 2 * strategy.mirostat_tau)
        self._bounds[index] = bound - strategy.mirostat_eta * (surprise - strategy.mirostat_tau)
