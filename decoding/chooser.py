"""One step's choice for the whole batch: take from every row what its request asked for.

Called by the engine with the logits of all rows that end in this step. Rows are sorted by kind
of ask, each kind is computed at once, and every row gets its candidates back; what a row gets
does not depend on its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.adjuster import Adjuster
from decoding.base import Ask, Best, Candidate, DecodingRow, Draw, DrawDistinct, MostLikely
from decoding.constraint import PackedTokens
from decoding.distinct import draw_distinct
from decoding.draw import draw_tokens
from decoding.logits import Summary
from decoding.normaliser import log_normaliser
from decoding.params import Processing
from decoding.processors.adjust import adjust
from decoding.processors.chain import Filtering, apply_filters, signature
from decoding.processors.guidance import Guidance, apply_guidance
from decoding.processors.shortlist import find_shortlist, shortlist_size
from decoding.processors.token_mask import apply_token_mask
from decoding.randomness import stream_key, uniform

_NOTHING = Processing()


@dataclass(frozen=True, slots=True)
class RowAsk:
    """A row, what its strategy asks of it, and what its request does to its scores before."""

    row: DecodingRow
    ask: Ask
    adjuster: Adjuster | None = None
    allowed: PackedTokens | None = None  # the only tokens that may follow; None: all may
    guidance: Guidance | None = None


@dataclass(frozen=True, slots=True)
class _Taken:
    """Candidates of some rows: token ids and scores, both [rows, count]; which rows have any."""

    token_ids: Tensor
    scores: Tensor
    is_usable: Tensor  # [rows] bool
    noise: Tensor | None = None  # of drawn tokens that must differ


def find_candidates(
    logits: Tensor, asked: Sequence[RowAsk], summary: Summary | None = None
) -> list[tuple[Candidate, ...]]:
    """Candidates for each row of `logits` [rows, vocab], best or drawn first.

    `summary` is what the runner has found out about them already. A row gets none if its logits, or
    its scores after processing, hold NaN or no finite maximum.
    """
    logits = logits.float()
    normaliser = log_normaliser(logits) if summary is None else summary.normaliser
    finite = torch.isfinite(normaliser).flatten().tolist()
    found: list[tuple[Candidate, ...]] = [()] * len(asked)
    for members in _by_kind(asked, finite):
        part, part_normaliser, part_summary = logits, normaliser, summary
        if len(members) < len(asked):
            at = _places(members, logits.device)
            part, part_normaliser = logits[at], normaliser[at]
            if summary is not None:
                part_summary = Summary(part_normaliser, summary.best[at])
        wanted = [asked[member] for member in members]
        if part_summary is not None and _is_plain(wanted[0]):
            taken = _look_up(part, part_summary)
        else:
            taken = _take(part, part_normaliser, wanted)
        logprobs = part.gather(1, taken.token_ids) - part_normaliser
        for member, candidates in zip(members, _candidates(taken, logprobs), strict=True):
            found[member] = candidates
    return found


def _places(members: Sequence[int], device: torch.device) -> slice | Tensor:
    """Rows that stand side by side are looked at where they are, others have to be copied."""
    first, last = members[0], members[-1]
    if last - first == len(members) - 1:
        return slice(first, last + 1)
    return torch.tensor(members, device=device)


def _by_kind(asked: Sequence[RowAsk], finite: Sequence[bool]) -> list[list[int]]:
    """Positions of the rows that can be computed together: same kind of ask, same counts."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    for at, (entry, is_finite) in enumerate(zip(asked, finite, strict=True)):
        if is_finite:
            count = 1 if isinstance(entry.ask, MostLikely) else entry.ask.count
            is_draw = isinstance(entry.ask, Draw | DrawDistinct)
            shortlist = shortlist_size(entry.ask.processing) if is_draw else 0
            also = entry.ask.also if isinstance(entry.ask, Best) else ()
            filters = signature(entry.ask.processing)
            kind = (type(entry.ask), count, shortlist, also, _is_plain(entry), filters)
            kinds.setdefault(kind, []).append(at)
    return list(kinds.values())


def _is_plain(entry: RowAsk) -> bool:
    """Whether the largest logit is all that is asked for."""
    if any(each is not None for each in (entry.adjuster, entry.allowed, entry.guidance)):
        return False
    if not isinstance(entry.ask, MostLikely):
        return False
    return entry.ask.processing == _NOTHING


def _look_up(logits: Tensor, summary: Summary) -> _Taken:
    """The most likely tokens, which the runner has found already."""
    scores = logits.gather(1, summary.best)
    return _Taken(summary.best, scores, torch.isfinite(scores).flatten())


def is_ranked(ask: Ask) -> bool:
    """Whether its candidates' scores are added up and compared between rows."""
    return isinstance(ask, Best | DrawDistinct)


def adjusted_scores(logits: Tensor, normaliser: Tensor, asked: Sequence[RowAsk]) -> Tensor:
    """What the requests make of the scores of their rows, before the strategies' own filters.

    Either all rows are ranked, by log-probabilities, or none is.
    """
    if is_ranked(asked[0].ask):
        logits, normaliser = logits - normaliser, torch.zeros_like(normaliser)
    scores = adjust(
        apply_guidance(logits, normaliser, [entry.guidance for entry in asked]),
        [entry.row for entry in asked],
        [entry.adjuster for entry in asked],
    )
    return apply_token_mask(scores, [entry.allowed for entry in asked])


def filterings(asked: Sequence[RowAsk]) -> list[Filtering]:
    """What each row asks of the filters, and where."""
    return [Filtering(entry.ask.processing, _place(entry)) for entry in asked]


def _take(logits: Tensor, normaliser: Tensor, asked: Sequence[RowAsk]) -> _Taken:
    """All of `asked` are of one kind."""
    scores = adjusted_scores(logits, normaliser, asked)
    if isinstance(asked[0].ask, Draw):
        if shortlist_size(asked[0].ask.processing):
            return _draw_from_shortlist(scores, asked)
        return _draw(apply_filters(scores, filterings(asked)), asked)
    if isinstance(asked[0].ask, DrawDistinct) and shortlist_size(asked[0].ask.processing):
        shortlist = find_shortlist(scores, filterings(asked))
        if shortlist.is_complete.all():
            return _draw_distinct(shortlist.scores, asked, shortlist.token_ids)
    scores = apply_filters(scores, filterings(asked))
    if isinstance(asked[0].ask, DrawDistinct):
        return _draw_distinct(scores, asked)
    is_usable = torch.isfinite(scores.amax(dim=1))
    scores = _usable(scores, is_usable)
    match asked[0].ask:
        case Best() as ask:
            token_ids = _best(scores, ask)
        case _:
            token_ids = scores.argmax(dim=1, keepdim=True)
    return _Taken(token_ids, scores.gather(1, token_ids), is_usable)


def _draw_distinct(
    scores: Tensor, asked: Sequence[RowAsk], token_ids: Tensor | None = None
) -> _Taken:
    """Draw different tokens by processed scores [rows, candidates]; all, or `token_ids`."""
    ask = asked[0].ask
    assert isinstance(ask, DrawDistinct), "rows are sorted by kind of ask"
    is_usable = torch.isfinite(scores.amax(dim=1))
    keys = [_stream_key(entry) for entry in asked]
    drawn = draw_distinct(_usable(scores, is_usable), keys, ask.count, token_ids)
    return _Taken(drawn.token_ids, drawn.scores, is_usable, drawn.noise)


def _best(scores: Tensor, ask: Best) -> Tensor:
    token_ids = torch.topk(scores, min(ask.count, scores.shape[1]), dim=1).indices
    if not ask.also:
        return token_ids
    also = torch.tensor(ask.also, device=scores.device)
    return torch.cat((token_ids, also.expand(scores.shape[0], -1)), dim=1)


def _draw_from_shortlist(scores: Tensor, asked: Sequence[RowAsk]) -> _Taken:
    """Draw for rows that keep a few best tokens: only these are sorted, summed and drawn from."""
    wanted = filterings(asked)
    shortlist = find_shortlist(scores, wanted)
    taken = _draw(shortlist.scores, asked)
    token_ids = shortlist.token_ids.gather(1, taken.token_ids)
    for at in (~shortlist.is_complete).nonzero().flatten().tolist():
        one = slice(at, at + 1)
        whole = _draw(apply_filters(scores[one], wanted[one]), asked[one])
        token_ids[one], taken.scores[one] = whole.token_ids, whole.scores
        taken.is_usable[one] = whole.is_usable
    return _Taken(token_ids, taken.scores, taken.is_usable)


def _draw(scores: Tensor, asked: Sequence[RowAsk]) -> _Taken:
    """Draw from processed scores [rows, candidates]; token ids are places among the candidates."""
    is_usable = torch.isfinite(scores.amax(dim=1))
    drawn = draw_tokens(_usable(scores, is_usable), [_uniforms(entry) for entry in asked])
    return _Taken(drawn.token_ids, drawn.logprobs, is_usable)


def _place(entry: RowAsk) -> tuple[int, int, int]:
    """Seed, sequence index and position: where a filter that draws is drawn."""
    seed = entry.ask.seed if isinstance(entry.ask, Draw | DrawDistinct) else 0
    return seed, entry.row.index, len(entry.row.generated_ids)


def _usable(scores: Tensor, is_usable: Tensor) -> Tensor:
    """The scores, with zeros in rows that cannot be used."""
    return scores if is_usable.all() else scores.masked_fill(~is_usable[:, None], 0.0)


def _uniforms(entry: RowAsk) -> list[float]:
    assert isinstance(entry.ask, Draw), "rows are sorted by kind of ask"
    position = len(entry.row.generated_ids)
    return [
        uniform(entry.ask.seed, entry.row.index + offset, position)
        for offset in range(entry.ask.count)
    ]


def _stream_key(entry: RowAsk) -> int:
    assert isinstance(entry.ask, DrawDistinct), "rows are sorted by kind of ask"
    return stream_key(entry.ask.seed, entry.row.index, len(entry.row.generated_ids))


def _candidates(taken: _Taken, logprobs: Tensor) -> list[tuple[Candidate, ...]]:
    columns = [taken.token_ids.tolist(), logprobs.tolist(), taken.scores.tolist()]
    if taken.noise is not None:
        columns.append(taken.noise.tolist())
    rows = (tuple(map(Candidate, *row)) for row in zip(*columns, strict=True))
    if taken.noise is not None:  # a draw never falls on a token that processing has dropped
        rows = (tuple(each for each in row if each.score > -math.inf) for row in rows)
    return [
        row if is_usable else ()
        for row, is_usable in zip(rows, taken.is_usable.tolist(), strict=True)
    ]
