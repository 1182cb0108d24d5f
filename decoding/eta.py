"""The `eta` strategy: random draws above a probability that follows the entropy."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import EtaCutoff, Temperature
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class EtaSampling(SamplingStrategy):
    """Drop tokens below a probability that shrinks where the model is unsure, then draw.

    Hewitt et al. 2022, arXiv:2210.15191.
    """

    eta_cutoff: EtaCutoff = 0.0003
    temperature: Temperature = 1.0

    name: ClassVar[str] = "eta"
