"""The `top_k` strategy: random draws among the k most likely tokens."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import Temperature, TopK
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKSampling(SamplingStrategy):
    """Draw among the k most likely tokens (Fan et al. 2018, arXiv:1805.04833)."""

    top_k: TopK = 50
    temperature: Temperature = 1.0

    name: ClassVar[str] = "top_k"
