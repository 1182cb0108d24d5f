"""The `top_p` strategy: random draws from the nucleus of the distribution."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import Temperature, TopP
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class TopPSampling(SamplingStrategy):
    """Draw from the nucleus: the fewest tokens whose probabilities reach `top_p`.

    Holtzman et al. 2019, arXiv:1904.09751.
    """

    top_p: TopP = 0.95
    temperature: Temperature = 1.0

    name: ClassVar[str] = "top_p"
