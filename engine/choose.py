"""The choosing of one step: what every stepping group finds in the step's logits.

Called by the engine between `forward` and the decoders. Each row of a group, and the row after each
of its drafts, is a place where a token is asked for; all places of the batch are answered at once.
On the way it notes what requests asked to see.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, chain

import torch
from torch import Tensor

from decoding.base import Candidate, DecodingRow
from decoding.chooser import RowAsk, find_candidates
from decoding.constraint import PackedTokens
from decoding.logits import Logits, Summary
from decoding.processors.guidance import Guidance
from decoding.processors.layer_contrast import premature_logprobs
from engine.errors import DecodingFailed
from engine.observe import note_alternatives, note_outlooks, note_prompt
from engine.plan import Plan
from engine.restrict import restrict
from engine.sequence import Group
from engine.sequence import Sequence as Row
from engine.speculate import ahead

Found = list[list[tuple[Candidate, ...]]]
"""Candidates for each row of a group, after none of its drafts, after one, and so on."""


def find_for_groups(plan: Plan, said: Logits) -> list[Found | DecodingFailed]:
    """What each stepping group finds, or why it can find nothing."""
    starts = _logits_starts(plan)
    note_prompt(plan, said.values, starts)
    places = [[ahead(row) for row in group.rows] for group in plan.stepping]
    allowed = [
        restrict(group, chain(*rows)) for group, rows in zip(plan.stepping, places, strict=True)
    ]
    asked = [
        entry
        for group, rows, tokens in zip(plan.stepping, places, allowed, strict=True)
        for entry in _row_asks(group, rows, tokens, said.values, starts)
    ]
    logits = _of_places(plan, said, starts)
    asked = _with_premature(asked, logits)
    candidates = find_candidates(logits.values, asked, logits.summary) if asked else []
    note_alternatives(plan, places, logits.values)
    note_outlooks(plan, places, logits.values, asked, candidates)
    each = iter(candidates)
    found = [[[next(each) for _ in row] for row in rows] for rows in places]
    return [
        tokens if isinstance(tokens, DecodingFailed) else of_group
        for tokens, of_group in zip(allowed, found, strict=True)
    ]


def _row_asks(
    group: Group,
    places: Sequence[Sequence[DecodingRow]],
    allowed: Sequence[PackedTokens] | DecodingFailed,
    logits: Tensor,
    starts: Mapping[int, int],
) -> Iterator[RowAsk]:
    """What is asked at each place of a group; `logits` are those of all planned rows."""
    asks = group.ask if isinstance(group.ask, tuple) else (group.ask,) * len(group.rows)
    # Where it failed, what is found is not looked at.
    tokens = iter(()) if isinstance(allowed, DecodingFailed) else iter(allowed)
    guidance = [_guidance(group, row, logits, starts) for row in group.rows]
    for ask, guide, row in zip(asks, guidance, places, strict=True):
        for place in row:
            yield RowAsk(place, ask, group.adjuster, next(tokens, None), guide)


def _with_premature(asked: list[RowAsk], logits: Logits) -> list[RowAsk]:
    """The asks, with what was said after the layers that some contrast with."""
    if logits.early is None:
        return asked
    contrasts = [entry.ask.processing.contrast for entry in asked]
    premature = premature_logprobs(logits.values, contrasts, logits.early)
    return [replace(entry, premature=each) for entry, each in zip(asked, premature, strict=True)]


def _guidance(group: Group, row: Row, logits: Tensor, starts: Mapping[int, int]) -> Guidance | None:
    """A guided row's twin's logits, which stand among those of the planned rows."""
    if group.request.guidance is None or row.twin is None:
        return None
    return Guidance(group.request.guidance.scale, logits[starts[row.twin.id]])


def _logits_starts(plan: Plan) -> dict[int, int]:
    """Where each planned row's logits begin, by the sequence's id."""
    starts = accumulate((row.num_logits for row in plan.rows), initial=0)
    return {row.sequence.id: start for row, start in zip(plan.rows, starts, strict=False)}


def _of_places(plan: Plan, said: Logits, starts: Mapping[int, int]) -> Logits:
    """The logits of the places, without those that score prompt tokens and those of twins."""
    num_logits = {row.sequence.id: row.num_logits for row in plan.rows}
    rows = [row for group in plan.stepping for row in group.rows]
    ends = [starts[row.id] + num_logits[row.id] for row in rows]
    at = [
        place
        for row, end in zip(rows, ends, strict=True)
        for place in range(end - 1 - len(row.draft_ids), end)
    ]
    if len(at) == len(said.values):  # all of them, and in the same order
        return said
    index = torch.tensor(at, dtype=torch.int64, device=said.values.device)
    summary = said.summary and Summary(said.summary.normaliser[index], said.summary.best[index])
    early = said.early and said.early.of_rows(at)
    return Logits(said.values[index], summary, early=early)
