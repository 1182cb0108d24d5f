"""What every beam strategy shares: a subclass adds its own parameters and its search.

`beam` and `beam_sample` inherit these fields, so that they mean the same in each.
The search itself is in `decoding.beam_search`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.errors import InvalidParameter
from decoding.params import MAX_SEQUENCES

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
class BeamStrategy:
    """A search with `num_beams` sequences alive at a time."""

    num_beams: NumBeams = 4
    length_penalty: LengthPenalty = 1.0
    early_stopping: EarlyStopping = False
    num_return_sequences: NumReturned = 1

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
        """The best beams asked for; fewer come where fewer sequences are possible."""
        return self.num_return_sequences
