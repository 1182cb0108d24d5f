"""Classifier-free guidance: away from what the model would say without the prompt.

Sanchez et al. 2023, arXiv:2306.17806, as `transformers`' unbatched processor: log-probabilities
move from those of the negative prompt towards those of the prompt, and above a scale of 1 beyond.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.normaliser import log_normaliser


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """How far a row is to be moved, and what it is moved away from."""

    scale: float
    negative_logits: Tensor  # [vocab], of the same text after the negative prompt


def apply_guidance(
    scores: Tensor, normaliser: Tensor, guidance: Sequence[Guidance | None]
) -> Tensor:
    """Guide the rows of `scores` [rows, vocab] that ask for it; `normaliser` [rows, 1] is theirs.

    The same tensor if none does. Guided rows become log-probabilities, no longer summing to 1.
    """
    asked = [(at, each) for at, each in enumerate(guidance) if each is not None]
    if not asked:
        return scores
    at = torch.tensor([at for at, _ in asked], device=scores.device)
    negative = torch.stack([each.negative_logits.float() for _, each in asked])
    negative = negative - log_normaliser(negative)
    scale = torch.tensor([each.scale for _, each in asked], device=scores.device)[:, None]
    positive = scores[at] - normaliser[at]
    guided = torch.where(positive.isneginf(), positive, negative + scale * (positive - negative))
    return scores.index_copy(0, at, guided)
