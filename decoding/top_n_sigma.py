"""The `top_n_sigma` strategy: random draws among the logits near the largest."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import Temperature, TopNSigma
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class TopNSigmaSampling(SamplingStrategy):
    """Draw among the tokens within `top_n_sigma` standard deviations of the best logit.

    Tang et al. 2024, arXiv:2411.07641.
    """

    top_n_sigma: TopNSigma = 1.0
    temperature: Temperature = 1.0

    name: ClassVar[str] = "top_n_sigma"
