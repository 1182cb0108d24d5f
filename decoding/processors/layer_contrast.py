"""DoLa: tokens are scored by how far the last layers raise them above what an earlier one says.

Chuang et al. 2023, arXiv:2309.03883, as the authors' code and `transformers` compute it. Of the
candidate layers the one whose distribution is furthest from the last layer's is contrasted with:
the scores are differences of log-probabilities, of the tokens that the last layer finds plausible.
An earlier layer's logits are its output times the head's matrix, without the final normalisation.

How far apart two distributions are is half the sum of the Kullback-Leibler divergences of their
mean from each of them. (The paper has the Jensen-Shannon divergence, of each of them from their
mean; both implementations go the other way round, and so the tokens that people know are theirs.)
Unlike in `transformers`, where a batch shares a layer, each row has its own.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from decoding.logits import EarlyExits
from decoding.normaliser import log_normaliser, row_sum
from decoding.params import LayerContrast

_MOST_AT_ONCE = 2**23  # logits of earlier layers, which each take several times four bytes


def premature_logprobs(
    logits: Tensor, contrasts: Sequence[LayerContrast | None], early: EarlyExits
) -> list[Tensor | None]:
    """Log-probabilities [vocab] after the layer that each row is contrasted with, if it asks so.

    `logits` [rows, vocab] are the last layer's.
    """
    found: list[Tensor | None] = [None] * len(contrasts)
    by_layers: dict[tuple[int, ...], list[int]] = {}
    for row, contrast in enumerate(contrasts):
        if contrast is not None:
            by_layers.setdefault(contrast.layers, []).append(row)
    for layers, rows in by_layers.items():
        for some in _parts(rows, len(layers) * logits.shape[1]):
            chosen = _furthest(logits[some].float(), _logprobs(early, some, layers))
            for row, logprobs in zip(some, chosen, strict=True):
                found[row] = logprobs
    return found


def contrast_layers(scores: Tensor, premature: Sequence[Tensor | None]) -> Tensor:
    """Rows of `scores` [rows, vocab] as log-probabilities, less their `premature` ones [vocab].

    The same tensor if no row has any. What has been ruled out stays so.
    """
    asked = [(at, each) for at, each in enumerate(premature) if each is not None]
    if not asked:
        return scores
    at = torch.tensor([at for at, _ in asked], device=scores.device)
    mature = scores[at]
    mature = mature - log_normaliser(mature)
    contrast = mature - torch.stack([each for _, each in asked])
    return scores.index_copy(0, at, torch.where(mature.isneginf(), mature, contrast))


def keep_plausible(scores: Tensor, measure: Tensor, relative_tops: Sequence[float]) -> Tensor:
    """Keep of `scores` [rows, vocab] what is plausible by `measure`, on a log scale, [rows, vocab].

    That is what reaches a share of the most plausible token's that has not been ruled out.
    """
    measure = measure.masked_fill(scores.isneginf(), -math.inf)
    shares = torch.tensor(relative_tops, dtype=measure.dtype, device=measure.device)
    floors = measure.amax(dim=1, keepdim=True) + shares.log()[:, None]
    return scores.masked_fill(measure < floors, -math.inf)


def _parts(rows: Sequence[int], size_of_row: int) -> Iterator[list[int]]:
    """As many rows at a time as memory is meant for, one at least."""
    count = max(1, _MOST_AT_ONCE // size_of_row)
    for first in range(0, len(rows), count):
        yield list(rows[first : first + count])


def _logprobs(early: EarlyExits, rows: Sequence[int], layers: Sequence[int]) -> Tensor:
    """What is said after each layer, [rows, layers, vocab]."""
    said = early.logits(rows, layers)
    values = said.values.float()
    normaliser = log_normaliser(values) if said.summary is None else said.summary.normaliser
    return (values - normaliser).view(len(rows), len(layers), -1)


def _furthest(logits: Tensor, premature: Tensor) -> Tensor:
    """Of the layers of each row, `premature` [rows, layers, vocab], the furthest: [rows, vocab]."""
    if premature.shape[1] == 1:
        return premature[:, 0]
    mature = (logits - log_normaliser(logits))[:, None]
    mean = (mature.exp() + premature.exp()) / 2
    gaps = 2 * mean.clamp(min=torch.finfo(mean.dtype).tiny).log() - mature - premature
    distances = row_sum((mean * gaps).flatten(0, 1)).view(premature.shape[:2])
    furthest = distances.nan_to_num(nan=-math.inf).argmax(dim=1)
    return premature[torch.arange(len(logits), device=logits.device), furthest]
