"""Applies the adjustments of requests to all rows of a step that bring any.

Called by `decoding.chooser` before the strategies' own filters. What no request asked for costs
nothing. Compiled rules say what is to be done to a row; here it is done, to all rows at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.adjuster import Adjuster, Shift
from decoding.base import DecodingRow
from decoding.processors.repetition_penalty import apply_repetition_penalty
from decoding.processors.watermark import apply_watermark


def adjust(
    scores: Tensor, rows: Sequence[DecodingRow], adjusters: Sequence[Adjuster | None]
) -> Tensor:
    """Apply to each row of `scores` [rows, vocab] what its request asked for.

    The same tensor if nobody asked for anything, a new one otherwise.
    """
    asked = [
        _Adjusted(at, row, adjuster)
        for at, (row, adjuster) in enumerate(zip(rows, adjusters, strict=True))
        if adjuster is not None
    ]
    if not asked:
        return scores
    scores = _shift(scores, asked, lambda one: [one.adjuster.bias] if one.adjuster.bias else [])
    scores = _penalise_repetition(scores, asked)
    scores = _shift(scores, asked, lambda one: one.adjuster.penalties)
    scores = _mark(scores, asked)
    scores = _ban(scores, asked)
    return _force(scores, asked)


@dataclass(frozen=True, slots=True)
class _Adjusted:
    """A row, its place among the scores, and its request's adjuster."""

    at: int
    row: DecodingRow
    adjuster: Adjuster


def _shift(
    scores: Tensor, asked: Sequence[_Adjusted], shifts_of: Callable[[_Adjusted], Sequence[Shift]]
) -> Tensor:
    """Add what the rows' shifts say, one after the other; a token is moved once by each."""
    places: list[int] = []
    token_ids: list[int] = []
    amounts: list[float] = []
    for one in asked:
        total: dict[int, float] = {}
        for shift in shifts_of(one):
            for token_id, amount in shift.shifts(one.row).items():
                total[token_id] = total.get(token_id, 0.0) + amount
        places += [one.at] * len(total)
        token_ids += total.keys()
        amounts += total.values()
    if not places:
        return scores
    at = (torch.tensor(places, device=scores.device), torch.tensor(token_ids, device=scores.device))
    moved = scores[at] + torch.tensor(amounts, dtype=scores.dtype, device=scores.device)
    return scores.index_put(at, moved)


def _penalise_repetition(scores: Tensor, asked: Sequence[_Adjusted]) -> Tensor:
    """Weaken what a row holds already, where its request asked for that."""
    concerned = [one for one in asked if one.adjuster.repetition_penalty != 1.0]
    if not concerned:
        return scores
    seen = [list(set(one.row.token_ids)) for one in concerned]
    longest = max(map(len, seen))
    padded = [ids + ids[:1] * (longest - len(ids)) for ids in seen]
    token_ids = torch.tensor(padded, device=scores.device)
    penalty = torch.tensor(
        [one.adjuster.repetition_penalty for one in concerned], device=scores.device
    )
    if len(concerned) == scores.shape[0]:
        return apply_repetition_penalty(scores, penalty, token_ids)
    at = torch.tensor([one.at for one in concerned], device=scores.device)
    return scores.index_copy(0, at, apply_repetition_penalty(scores[at], penalty, token_ids))


def _mark(scores: Tensor, asked: Sequence[_Adjusted]) -> Tensor:
    """Watermark the rows that ask for it."""
    marked = [
        (one.at, one.row.token_ids[-1], one.adjuster.watermark)
        for one in asked
        if one.adjuster.watermark is not None
    ]
    if not marked:
        return scores
    rows, previous, watermarks = zip(*marked, strict=True)
    return apply_watermark(scores, rows, previous, watermarks)


def _ban(scores: Tensor, asked: Sequence[_Adjusted]) -> Tensor:
    places: list[int] = []
    token_ids: list[int] = []
    for one in asked:
        for ban in one.adjuster.bans:
            banned = ban.banned(one.row)
            places += [one.at] * len(banned)
            token_ids += banned
    if not places:
        return scores
    at = (torch.tensor(places, device=scores.device), torch.tensor(token_ids, device=scores.device))
    return scores.index_put(at, scores.new_tensor(-torch.inf))


def _force(scores: Tensor, asked: Sequence[_Adjusted]) -> Tensor:
    """A forced token is all that is left of its row, with score 0, as `transformers` has it."""
    forced = [
        (one.at, token_id)
        for one in asked
        for rule in one.adjuster.forced
        if (token_id := rule.forced(one.row)) is not None
    ]
    if not forced:
        return scores
    scores = scores.clone()
    for at, token_id in forced:
        scores[at] = -torch.inf
        scores[at, token_id] = 0.0
    return scores
