"""The few tokens that a truncated row can still draw: found once, so the rest costs nothing more.

Used by `decoding.chooser`. Where the first truncation keeps some best tokens by looking at no
others, dropping the rest of the vocabulary at once gives what the whole chain gives, at a fraction
of the time. How many tokens are looked at depends on a row's own parameters, so what it gets does
not depend on its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.params import Processing
from decoding.processors.chain import Filtering, apply_filters, first_truncation

MOST_KEPT = 256  # with more, the whole chain is as fast
_SPARE = 16  # looked at beyond top_k, for tokens as likely as the last one kept


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Candidates of some rows by token id: their ids and processed scores, [rows, candidates]."""

    token_ids: Tensor
    scores: Tensor
    is_complete: Tensor  # [rows] bool; False: more are as likely as the last one kept


def shortlist_size(processing: Processing) -> int:
    """How many tokens to keep for the shortlist; 0 if a row needs the whole vocabulary."""
    match first_truncation(processing):
        case "top_k":
            return processing.top_k if processing.top_k <= MOST_KEPT else 0
        case "min_p" | "top_h":
            return MOST_KEPT
        case _:
            return 0


def find_shortlist(scores: Tensor, asked: Sequence[Filtering]) -> Shortlist:
    """Candidates of rows of adjusted `scores` [rows, vocab] with shortlists of the same size."""
    num_looked_at = min(shortlist_size(asked[0].processing) + _SPARE, scores.shape[1])
    best = torch.topk(scores, num_looked_at, dim=1)
    token_ids, order = best.indices.sort(dim=1)
    processed = apply_filters(best.values.gather(1, order), asked)
    has_all = num_looked_at == scores.shape[1]
    return Shortlist(token_ids, processed, torch.isinf(processed).any(dim=1) | has_all)
