"""The `sample` strategy: random draws, with every truncation at hand."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import MinP, Temperature, TopK, TopP
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(SamplingStrategy):
    """Draw from the distribution after temperature, top-k, top-p and min-p, in that order."""

    temperature: Temperature = 1.0
    top_k: TopK = 50
    top_p: TopP = 0.95
    min_p: MinP = 0.0

    name: ClassVar[str] = "sample"
