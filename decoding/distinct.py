"""Drawing different tokens of a row: the Gumbel-top-k trick with noise that belongs to a place.

Kool et al. 2019, arXiv:1903.06059: the tokens with the k largest sums of log-probability and
Gumbel noise are k draws without replacement, in order. Used by `decoding.chooser`. A token's noise
is a hash of its row's key and its id (SplitMix64: Steele et al. 2014, "Fast splittable pseudorandom
number generators"), so it does not depend on which other tokens or rows are looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_INCREMENT = 0x9E3779B97F4A7C15 - 2**64  # constants of SplitMix64, as signed numbers
_FACTORS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_FEW = 8  # a part of the vocabulary smaller than one in so many is worth finding first


@dataclass(frozen=True, slots=True)
class Distinct:
    """Drawn tokens and their noise, [rows, count], in the order of the draws."""

    token_ids: Tensor
    scores: Tensor
    noise: Tensor  # float64


def draw_distinct(
    scores: Tensor, keys: Sequence[int], count: int, token_ids: Tensor | None = None
) -> Distinct:
    """Draw `count` tokens a row from softmax(`scores`) [rows, candidates] without replacement.

    Tokens whose score is -inf come last, where there are not enough others. `keys` are 64-bit
    signed numbers, one a row; `token_ids` say which tokens the candidates are, if not all.
    """
    num_candidates = scores.shape[1]
    count = min(count, num_candidates)
    if token_ids is None:
        token_ids = torch.arange(num_candidates, device=scores.device).expand(scores.shape)
        num_open = max(count, num_candidates - int(scores.isneginf().sum(dim=1).min()))
        if num_open <= num_candidates // _FEW:
            scores, token_ids = torch.topk(scores, num_open, dim=1)
    noise = gumbel_noise(torch.tensor(keys, device=scores.device), token_ids)
    drawn = torch.topk(scores + noise, count, dim=1).indices
    return Distinct(token_ids.gather(1, drawn), scores.gather(1, drawn), noise.gather(1, drawn))


def gumbel_noise(keys: Tensor, token_ids: Tensor) -> Tensor:
    """Standard Gumbel numbers for `token_ids` [rows, tokens] under `keys` [rows]; float64."""
    bits = keys[:, None] + (token_ids + 1) * _INCREMENT
    for shift, factor in _FACTORS:
        bits = (bits ^ _shifted(bits, shift)) * factor
    bits = bits ^ _shifted(bits, 31)
    uniform: Tensor = (_shifted(bits, 11).double() + 0.5) * 2.0**-53  # above 0 and below 1
    return -torch.log(-torch.log(uniform))


def _shifted(bits: Tensor, by: int) -> Tensor:
    """`bits` to the right as unsigned numbers, which Torch cannot shift."""
    shifted: Tensor = (bits >> by) & (2 ** (64 - by) - 1)
    return shifted
