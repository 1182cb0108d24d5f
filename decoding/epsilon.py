"""The `epsilon` strategy: random draws among the tokens above a fixed probability."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import EpsilonCutoff, Temperature
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonSampling(SamplingStrategy):
    """Drop tokens whose probability is below `epsilon_cutoff`, then draw.

    Hewitt et al. 2022, arXiv:2210.15191.
    """

    epsilon_cutoff: EpsilonCutoff = 0.0003
    temperature: Temperature = 1.0

    name: ClassVar[str] = "epsilon"
