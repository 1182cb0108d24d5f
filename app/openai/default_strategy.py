"""The strategy `default` of OpenAI's bodies: what their own parameters mean when none is named.

Temperature 0 is greedy; otherwise tokens are drawn, and with `best_of` the best of several samples
are returned. Nothing is truncated unless asked for. `resolved` gives the strategy that runs.
"""

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.base import Strategy
from decoding.best_of import BestOf, NumDrawn
from decoding.errors import InvalidParameter
from decoding.greedy import Greedy
from decoding.params import NumSamples, TopK, TopP
from decoding.sample import Sample
from decoding.sampling import EveryFilter

LEAST_TEMPERATURE = 0.01
ALWAYS_KEEP_THE_BEST = frozenset({"temperature", "top_p", "top_k", "min_p"})

ZeroOrMore = Annotated[
    float,
    Ge(0.0),
    Le(100.0),
    Doc(
        "Divides the logits: below 1 sharpens, above 1 flattens. 0 takes the most likely token "
        "each time."
    ),
]
BestOfOrNone = Annotated[
    NumDrawn | None,
    Doc("How many samples to draw; the n that the model finds most likely are returned."),
]


@dataclass(frozen=True, kw_only=True)
class DefaultStrategy(EveryFilter):
    """As OpenAI's API: the most likely tokens at temperature 0, random draws above it."""

    temperature: ZeroOrMore = 1.0
    top_k: TopK = 0
    top_p: TopP = 1.0
    best_of: BestOfOrNone = None
    num_return_sequences: NumSamples = 1

    name: ClassVar[str] = "default"

    def __post_init__(self) -> None:
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise InvalidParameter(
                "temperature",
                f"Is neither 0 nor at least {LEAST_TEMPERATURE}; for no randomness send 0",
            )
        if self.temperature == 0:
            self._check_greedy()

    def resolved(self) -> Strategy:
        """The strategy that these parameters come down to.

        Raises:
            InvalidParameter: they contradict each other.
        """
        if self.temperature == 0:
            return Greedy()
        filters = {field.name: getattr(self, field.name) for field in fields(EveryFilter)}
        if self.samplers is not None:  # what it does not name does not run
            for name in ("top_k", "top_p"):
                if name not in self.samplers and filters[name] == _default_of(name):
                    del filters[name]
        if self.best_of is None:
            return Sample(num_return_sequences=self.num_return_sequences, **filters)
        return BestOf(
            best_of=self.best_of, num_return_sequences=self.num_return_sequences, **filters
        )

    def _check_greedy(self) -> None:
        """Refuse what has no meaning where nothing is drawn."""
        for name in ("num_return_sequences", "best_of"):
            if (getattr(self, name) or 1) > 1:
                raise InvalidParameter(
                    name, "At temperature 0 there is one answer; leave it out or raise temperature"
                )
        for field in fields(EveryFilter):
            is_asked = getattr(self, field.name) != _default_of(field.name)
            if is_asked and field.name not in ALWAYS_KEEP_THE_BEST:
                raise InvalidParameter(
                    field.name, "Has no effect at temperature 0; leave it out or raise temperature"
                )


def _default_of(name: str) -> object:
    return next(field.default for field in fields(DefaultStrategy) if field.name == name)
