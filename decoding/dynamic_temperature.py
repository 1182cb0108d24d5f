"""The `dynamic_temperature` strategy: random draws at a temperature that follows the entropy."""

from dataclasses import dataclass
from typing import ClassVar

from decoding.params import DynamicExponent, DynamicRange, MinP, Temperature
from decoding.sampling import SamplingStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicTemperatureSampling(SamplingStrategy):
    """Draw at a temperature that falls where the model is sure and rises where it is not.

    After kalomaze's dynamic temperature, as llama.cpp's `temp_ext`.
    """

    dynatemp_range: DynamicRange = 0.5
    dynatemp_exponent: DynamicExponent = 1.0
    min_p: MinP = 0.05
    temperature: Temperature = 1.0

    name: ClassVar[str] = "dynamic_temperature"
