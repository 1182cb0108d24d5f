"""Epsilon and eta sampling: drop tokens below a probability, fixed or by the row's entropy.

Hewitt et al. 2022, arXiv:2210.15191, as `transformers.EpsilonLogitsWarper` and `EtaLogitsWarper`.
"""

import torch
from torch import Tensor

from decoding.whole import Whole


def epsilon_floor(_scores: Tensor, epsilon: Tensor, whole: Whole) -> Tensor:
    """The score of probability `epsilon` [rows]."""
    return epsilon.log() + whole.normaliser.squeeze(1)


def eta_floor(_scores: Tensor, epsilon: Tensor, whole: Whole) -> Tensor:
    """The same with the smaller of `epsilon` and sqrt(`epsilon`) * exp(-entropy)."""
    by_entropy = epsilon.log() / 2 - whole.entropy.squeeze(1).float()
    return torch.minimum(epsilon.log(), by_entropy) + whole.normaliser.squeeze(1)
