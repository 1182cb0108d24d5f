"""The `typical` strategy: random draws among the locally typical tokens."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import Temperature, TypicalP
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalSampling(SamplingStrategy):
    """Draw among the tokens whose surprise is closest to the expected one.

    Meister et al. 2022, arXiv:2202.00666.
    """

    typical_p: TypicalP = 0.95
    temperature: Temperature = 1.0

    name: ClassVar[str] = "typical"
