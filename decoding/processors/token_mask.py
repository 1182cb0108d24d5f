"""Drops the tokens that a request's grammar does not allow next."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from decoding.constraint import PackedTokens


def apply_token_mask(scores: Tensor, allowed: Sequence[PackedTokens | None]) -> Tensor:
    """Leave of each row of `scores` [rows, vocab] what is `allowed`; all of it where that is None.

    Tokens beyond those that a set knows are dropped.
    """
    concerned = [at for at, tokens in enumerate(allowed) if tokens is not None]
    if not concerned:
        return scores
    packed = np.stack([tokens for tokens in allowed if tokens is not None])
    bits = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little")
    is_allowed = np.zeros((len(concerned), scores.shape[1]), np.bool_)
    width = min(bits.shape[1], scores.shape[1])
    is_allowed[:, :width] = bits[:, :width]
    is_dropped = torch.from_numpy(~is_allowed).to(scores.device)
    if len(concerned) == scores.shape[0]:
        return scores.masked_fill(is_dropped, -torch.inf)
    at = torch.tensor(concerned, device=scores.device)
    return scores.index_copy(0, at, scores[at].masked_fill(is_dropped, -torch.inf))
