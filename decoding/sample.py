"""The `sample` strategy: random draws, with every filter at hand."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.sampling import EveryFilter, SamplingStrategy


@dataclass(frozen=True, kw_only=True)
class Sample(EveryFilter, SamplingStrategy):
    """Draw from what temperature and truncation leave, in the usual order or in `samplers`'."""

    name: ClassVar[str] = "sample"
