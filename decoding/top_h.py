"""The `top_h` strategy: random draws among the tokens that hold a share of the entropy."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import Temperature, TopH
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class TopHSampling(SamplingStrategy):
    """Draw among the best tokens that together hold `top_h` of the entropy.

    Baghaei Potraghloo et al. 2025, arXiv:2509.02510.
    """

    top_h: TopH = 0.4
    temperature: Temperature = 1.0

    name: ClassVar[str] = "top_h"
