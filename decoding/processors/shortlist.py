"""The few tokens that a truncated row can still draw: found once, so the rest costs nothing more.

Used by `decoding.chooser`. A first truncation keeps some best tokens (typical sampling: the most
typical), measured by figures of the whole row; dropping the rest of the vocabulary at once gives
what the whole chain gives, at a fraction of the time. How many tokens are looked at depends on a
row's own parameters, so what it gets does not depend on its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.params import Processing
from decoding.processors.chain import (
    Filtering,
    apply_rest,
    first_truncation,
    truncate_candidates,
)
from decoding.processors.typical import typicality
from decoding.whole import Whole, places_of

MOST_KEPT = 256  # by top-k; with more, the whole chain is as fast
_SPARE = 16  # looked at beyond those kept, for tokens as likely as the last of them
_FEW, _MANY = 64 + _SPARE, MOST_KEPT + _SPARE  # how many are looked at
_KEEP_FEW = ("min_p", "top_n_sigma")  # of most rows


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Candidates of some rows by token id: their ids and processed scores, [rows, candidates]."""

    token_ids: Tensor
    scores: Tensor
    is_complete: Tensor  # [rows] bool; False: the row may keep more tokens than were looked at


@dataclass(frozen=True, slots=True)
class Kind:
    """What rows must have in common for their shortlists to be found together."""

    num_looked_at: int
    is_scaled: bool  # by a fixed temperature


def shortlist_kind(processing: Processing) -> Kind | None:
    """How to find a row's shortlist; None if the row needs the whole vocabulary."""
    first = first_truncation(processing)
    has_range = processing.dynatemp_range > 0
    if first is None or (has_range and first not in ("top_k", "min_p", "top_h")):
        return None  # what a dynamic temperature makes of the figures is not known beforehand
    if first == "top_k" and processing.top_k > MOST_KEPT:
        return None
    keeps_few = first in _KEEP_FEW or (first == "top_k" and processing.top_k <= _FEW - _SPARE)
    is_scaled = processing.temperature != 1.0 and not has_range
    return Kind(_FEW if keeps_few else _MANY, is_scaled)


def find_shortlist(whole: Whole, asked: Sequence[Filtering]) -> Shortlist:
    """Candidates of rows of adjusted scores with shortlists of the same kind."""
    measured = _measured(whole, asked)
    token_ids = _looked_at(whole, measured, asked).sort(dim=1).values
    truncated = truncate_candidates(whole.take(token_ids), asked, measured)
    has_all = token_ids.shape[1] == whole.num_tokens
    is_complete = torch.isinf(truncated).any(dim=1) | has_all
    return Shortlist(token_ids, apply_rest(truncated, asked), is_complete)


def keep_whole(whole: Whole, asked: Sequence[Filtering]) -> Tensor:
    """What the filters leave of the whole rows, [rows, vocab]: where the shortlist is too short."""
    truncated = truncate_candidates(whole.scores, asked, _measured(whole, asked))
    return apply_rest(truncated, asked)


def _measured(whole: Whole, asked: Sequence[Filtering]) -> Whole:
    """The rows as their first truncation measures them: after their temperature."""
    kind = shortlist_kind(asked[0].processing)
    if kind is None or not kind.is_scaled:
        return whole
    return whole.divided_by([filtering.processing.temperature for filtering in asked])


def _looked_at(whole: Whole, measured: Whole, asked: Sequence[Filtering]) -> Tensor:
    """Token ids of the best tokens of each row, or of the most typical ones."""
    kind = shortlist_kind(asked[0].processing)
    assert kind is not None, "these rows have shortlists"
    token_ids = whole.best_tokens(kind.num_looked_at)
    typical = [
        at
        for at, filtering in enumerate(asked)
        if first_truncation(filtering.processing) == "typical_p"
    ]
    if typical:
        by_typicality = Whole(typicality(measured.of_rows(typical)))
        at = places_of(typical, token_ids.device)
        token_ids[at] = by_typicality.best_tokens(kind.num_looked_at)
    return token_ids
