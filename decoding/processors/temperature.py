"""Temperature, fixed or dynamic.

Fixed: as `transformers.TemperatureLogitsWarper`. Dynamic: the temperature follows the entropy of
the row, as llama.cpp's `temp_ext` sampler does (after kalomaze's "Dynamic Temperature Sampling").
"""

import torch
from torch import Tensor

from decoding.whole import Whole

COLDEST = 0.01  # the lowest temperature that a request may ask for


def apply_temperature(scores: Tensor, temperature: Tensor) -> Tensor:
    """Scale `scores` [rows, vocab] by 1 / `temperature` [rows]."""
    return scores / temperature[:, None]


def apply_dynamic_temperature(
    scores: Tensor, temperature: Tensor, half_range: Tensor, exponent: Tensor, whole: Whole
) -> Tensor:
    """Scale `scores` [rows, candidates] by a temperature within `half_range` of the given one.

    It is lowest for a row that is sure and highest for one that holds all its candidates for
    equally likely: the share of the largest possible entropy, to the power of `exponent`, says
    where between. All parameters are [rows].
    """
    num_open = whole.num_open.squeeze(1)
    largest = num_open.clamp(min=2).float().log()
    share = (whole.entropy.squeeze(1).float() / largest).clamp(0.0, 1.0).pow(exponent)
    lowest = (temperature - half_range).clamp(min=0.0)
    chosen = lowest + (temperature + half_range - lowest) * share
    chosen = torch.where(num_open > 1, chosen, temperature)
    return scores / chosen.clamp(min=COLDEST)[:, None]
