"""The `xtc` strategy: random draws that now and then exclude the top choices."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import MinP, Temperature, XtcProbability, XtcThreshold
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class XtcSampling(SamplingStrategy):
    """Exclude the top choices in some of the steps, for more surprising text.

    By p-e-w, text-generation-webui pull request 6335; also in llama.cpp.
    """

    xtc_probability: XtcProbability = 0.5
    xtc_threshold: XtcThreshold = 0.1
    min_p: MinP = 0.02
    temperature: Temperature = 1.0

    name: ClassVar[str] = "xtc"
