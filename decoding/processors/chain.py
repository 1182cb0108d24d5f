"""The chain of processors, in the order of `transformers`, each run only on rows that ask for it.

Called once a step by `decoding.chooser` for the whole batch. A processor that no row asked for
costs nothing; one that some rows asked for runs on these rows alone.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from decoding.base import DecodingRow
from decoding.params import Processing
from decoding.processors.min_p import apply_min_p
from decoding.processors.repetition_penalty import apply_repetition_penalty
from decoding.processors.temperature import apply_temperature
from decoding.processors.top_k import apply_top_k
from decoding.processors.top_p import apply_top_p

_FILTERS: tuple[tuple[str, float, torch.dtype, Callable[[Tensor, Tensor], Tensor]], ...] = (
    ("temperature", 1.0, torch.float32, apply_temperature),
    ("top_k", 0, torch.int64, apply_top_k),
    ("top_p", 1.0, torch.float64, apply_top_p),
    ("min_p", 0.0, torch.float32, apply_min_p),
)  # field of Processing, the value that does nothing, its dtype, the processor


def process(scores: Tensor, rows: Sequence[DecodingRow], asked: Sequence[Processing]) -> Tensor:
    """Apply to each row of `scores` [rows, vocab] float32 what it asked for; a new tensor."""
    return apply_filters(penalise_repetition(scores, rows, asked), asked)


def apply_filters(scores: Tensor, asked: Sequence[Processing]) -> Tensor:
    """What comes after the penalties; `scores` [rows, candidates] may be some of the tokens."""
    for field, neutral, dtype, apply in _FILTERS:
        values = [getattr(processing, field) for processing in asked]
        concerned = [at for at, value in enumerate(values) if value != neutral]
        if concerned:
            parameter = torch.tensor(
                [values[at] for at in concerned], dtype=dtype, device=scores.device
            )
            scores = _on_rows(scores, concerned, apply, parameter)
    return scores


def penalise_repetition(
    scores: Tensor, rows: Sequence[DecodingRow], asked: Sequence[Processing]
) -> Tensor:
    """Weaken what a row holds already, where it asked for that."""
    concerned = [at for at, processing in enumerate(asked) if processing.repetition_penalty != 1.0]
    if not concerned:
        return scores
    seen = [list(set(rows[at].token_ids)) for at in concerned]
    longest = max(map(len, seen))
    padded = [ids + ids[:1] * (longest - len(ids)) for ids in seen]
    token_ids = torch.tensor(padded, device=scores.device)
    penalty = torch.tensor([asked[at].repetition_penalty for at in concerned], device=scores.device)
    return _on_rows(scores, concerned, apply_repetition_penalty, penalty, token_ids)


def _on_rows(
    scores: Tensor, rows: list[int], apply: Callable[..., Tensor], *parameters: Tensor
) -> Tensor:
    if len(rows) == scores.shape[0]:
        return apply(scores, *parameters)
    at = torch.tensor(rows, device=scores.device)
    return scores.index_copy(0, at, apply(scores[at], *parameters))
