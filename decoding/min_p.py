"""The `min_p` strategy: random draws among the tokens not far less likely than the best."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import MinP, Temperature
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class MinPSampling(SamplingStrategy):
    """Drop tokens less likely than `min_p` times the best one, then draw.

    Nguyen et al. 2024, arXiv:2407.01082.
    """

    min_p: MinP = 0.05
    temperature: Temperature = 1.0

    name: ClassVar[str] = "min_p"
