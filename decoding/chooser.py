"""One step's choice for the whole batch: take from every row what its request asked for.

Called by the engine with the logits of all rows that end in this step. Rows are sorted by kind
of ask, each kind is computed at once, and every row gets its candidates back; what a row gets
does not depend on its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from decoding.adjuster import Adjuster
from decoding.ask import Ask, Best, Draw, DrawDistinct, MostLikely
from decoding.base import Candidate, DecodingRow
from decoding.constraint import PackedTokens
from decoding.distinct import draw_distinct
from decoding.draw import draw_tokens
from decoding.logits import Summary
from decoding.params import Processing
from decoding.processors.adjust import adjust
from decoding.processors.chain import Filtering, apply_filters, is_scaled, signature
from decoding.processors.guidance import Guidance, apply_guidance
from decoding.processors.layer_contrast import contrast_layers, keep_plausible
from decoding.processors.shortlist import find_shortlist, keep_whole, shortlist_kind
from decoding.processors.token_mask import apply_token_mask
from decoding.randomness import stream_key, uniform
from decoding.whole import Whole

_NOTHING = Processing()


@dataclass(frozen=True, slots=True)
class RowAsk:
    """A row, what its strategy asks of it, and what its request does to its scores before."""

    row: DecodingRow
    ask: Ask
    adjuster: Adjuster | None = None
    allowed: PackedTokens | None = None  # the only tokens that may follow; None: all may
    guidance: Guidance | None = None
    premature: Tensor | None = None  # [vocab] log-probabilities, if its ask contrasts layers


@dataclass(frozen=True, slots=True)
class _Taken:
    """Candidates of some rows: token ids and scores, both [rows, count]; which rows have any."""

    token_ids: Tensor
    scores: Tensor
    is_usable: Tensor  # [rows] bool
    noise: Tensor | None = None  # of drawn tokens that must differ

    def put(self, rows: list[int], other: "_Taken") -> None:
        """Write what others have taken over some rows."""
        self.token_ids[rows], self.scores[rows] = other.token_ids, other.scores
        self.is_usable[rows] = other.is_usable
        if self.noise is not None and other.noise is not None:
            self.noise[rows] = other.noise


def find_candidates(
    logits: Tensor, asked: Sequence[RowAsk], summary: Summary | None = None
) -> list[tuple[Candidate, ...]]:
    """Candidates for each row of `logits` [rows, vocab], best or drawn first.

    `summary` is what the runner has found out about them already. A row gets none if its logits, or
    its scores after processing, hold NaN or no finite maximum.
    """
    whole = Whole(logits.float(), None if summary is None else summary.normaliser)
    finite = torch.isfinite(whole.normaliser).flatten().tolist()
    found: list[tuple[Candidate, ...]] = [()] * len(asked)
    for members in _by_kind(asked, finite):
        part = whole.of_rows(members)
        wanted = [asked[member] for member in members]
        if summary is not None and _is_plain(wanted[0]):
            taken = _look_up(part, summary.best[members])
        else:
            taken = _take(part, wanted)
        logprobs = part.take(taken.token_ids) - part.normaliser
        for member, candidates in zip(members, _candidates(taken, logprobs), strict=True):
            found[member] = candidates
    return found


def _by_kind(asked: Sequence[RowAsk], finite: Sequence[bool]) -> list[list[int]]:
    """Positions of the rows that can be computed together: same kind of ask, same counts."""
    kinds: dict[tuple[object, ...], list[int]] = {}
    for at, (entry, is_finite) in enumerate(zip(asked, finite, strict=True)):
        if is_finite:
            kinds.setdefault(_kind(entry), []).append(at)
    return list(kinds.values())


def _kind(entry: RowAsk) -> tuple[object, ...]:
    ask = entry.ask
    count = 1 if isinstance(ask, MostLikely) else ask.count
    best = (ask.also, ask.is_share) if isinstance(ask, Best) else ()
    is_draw = isinstance(ask, Draw | DrawDistinct)
    shortlist = shortlist_kind(ask.processing) if is_draw else None
    filters = signature(ask.processing) if shortlist is None else shortlist
    is_late = is_ranked(ask) and not is_scaled(ask.processing)
    return (type(ask), count, best, _is_as_said(entry), is_late, filters)


def _is_as_said(entry: RowAsk) -> bool:
    """Whether nothing is done to the model's logits before the strategy's own filters."""
    asked = (entry.adjuster, entry.allowed, entry.guidance, entry.premature)
    return all(each is None for each in asked)


def _is_plain(entry: RowAsk) -> bool:
    """Whether the largest logit is all that is asked for."""
    if not isinstance(entry.ask, MostLikely):
        return False
    return entry.ask.processing == _NOTHING and _is_as_said(entry)


def _look_up(whole: Whole, best: Tensor) -> _Taken:
    """The most likely tokens, which the runner has found already."""
    scores = whole.take(best)
    return _Taken(best, scores, torch.isfinite(scores).flatten())


def is_ranked(ask: Ask) -> bool:
    """Whether its candidates' scores are added up and compared between rows."""
    return isinstance(ask, DrawDistinct) or (isinstance(ask, Best) and not ask.is_share)


def adjusted_scores(logits: Tensor, normaliser: Tensor, asked: Sequence[RowAsk]) -> Tensor:
    """What the requests make of the scores of their rows, before the strategies' own filters.

    Either all rows are ranked, by log-probabilities, or none is.
    """
    if is_ranked(asked[0].ask):
        logits, normaliser = logits - normaliser, torch.zeros_like(normaliser)
    said = apply_guidance(logits, normaliser, [entry.guidance for entry in asked])
    premature = [entry.premature for entry in asked]
    scores = adjust(
        contrast_layers(said, premature),
        [entry.row for entry in asked],
        [entry.adjuster for entry in asked],
    )
    scores = apply_token_mask(scores, [entry.allowed for entry in asked])
    contrasting = [at for at, each in enumerate(premature) if each is not None]
    if not contrasting:
        return scores
    plausible = _keep_plausible(
        scores[contrasting], said[contrasting], [asked[at] for at in contrasting]
    )
    return scores.index_copy(0, torch.tensor(contrasting, device=scores.device), plausible)


def _keep_plausible(scores: Tensor, said: Tensor, asked: Sequence[RowAsk]) -> Tensor:
    """Drop what the model finds far less likely than the best token that is allowed.

    What requests add to scores counts, or a bias would be without effect on what the model is sure
    of. A repetition penalty does not: as with `transformers`, it weakens contrasts alone.
    """
    adjusters = [
        entry.adjuster and replace(entry.adjuster, repetition_penalty=1.0) for entry in asked
    ]
    measure = adjust(said, [entry.row for entry in asked], adjusters)
    contrasts = [entry.ask.processing.contrast for entry in asked]
    return keep_plausible(scores, measure, [each.relative_top for each in contrasts if each])


def filterings(asked: Sequence[RowAsk]) -> list[Filtering]:
    """What each row asks of the filters, and where."""
    return [Filtering(entry.ask.processing, _place(entry)) for entry in asked]


def _take(whole: Whole, asked: Sequence[RowAsk]) -> _Taken:
    """All of `asked` are of one kind."""
    ask = asked[0].ask
    is_late = is_ranked(ask) and _is_as_said(asked[0]) and not is_scaled(ask.processing)
    adjusted = whole
    if not _is_as_said(asked[0]) or (is_ranked(ask) and not is_late):
        adjusted = Whole(adjusted_scores(whole.scores, whole.normaliser, asked))
    if isinstance(ask, Draw | DrawDistinct):
        taken = _draw_any(adjusted, asked)
    else:
        taken = _take_best(adjusted, asked)
    if is_late:  # only the few that were taken become log-probabilities
        return replace(taken, scores=taken.scores - whole.normaliser)
    return taken


def _take_best(whole: Whole, asked: Sequence[RowAsk]) -> _Taken:
    """The best tokens by processed score."""
    ask = asked[0].ask
    if ask.processing != _NOTHING:
        whole = Whole(apply_filters(whole.scores, filterings(asked)))
    if isinstance(ask, Best):
        token_ids = whole.best_tokens(ask.count)
    else:
        token_ids = whole.scores.argmax(dim=1, keepdim=True)  # the first of equals
    scores = whole.take(token_ids)
    # NaN counts as the largest.
    is_usable = torch.isfinite(scores[:, 0])
    if isinstance(ask, Best) and ask.also:
        also = torch.tensor(ask.also, device=token_ids.device).expand(len(asked), -1)
        token_ids = torch.cat((token_ids, also), dim=1)
        scores = whole.take(token_ids)
    if isinstance(ask, Best) and ask.is_share:
        scores = scores - whole.normaliser
    return _Taken(token_ids, scores, is_usable)


def _draw_any(whole: Whole, asked: Sequence[RowAsk]) -> _Taken:
    """Draw from rows of one kind, by their shortlists if they have any."""
    wanted = filterings(asked)
    draw = _draw_distinct if isinstance(asked[0].ask, DrawDistinct) else _draw
    if shortlist_kind(asked[0].ask.processing) is None:
        return draw(apply_filters(whole.scores, wanted), asked)
    shortlist = find_shortlist(whole, wanted)
    taken = draw(shortlist.scores, asked, shortlist.token_ids)
    rest = (~shortlist.is_complete).nonzero().flatten().tolist()
    if rest:
        kept = keep_whole(whole.of_rows(rest), [wanted[at] for at in rest])
        taken.put(rest, draw(kept, [asked[at] for at in rest]))
    return taken


def _draw(scores: Tensor, asked: Sequence[RowAsk], token_ids: Tensor | None = None) -> _Taken:
    """Draw by processed scores [rows, candidates]; all tokens, or `token_ids`."""
    is_usable = torch.isfinite(scores.amax(dim=1))
    drawn = draw_tokens(_usable(scores, is_usable), [_uniforms(entry) for entry in asked])
    places = drawn.token_ids
    found = places if token_ids is None else token_ids.gather(1, places)
    return _Taken(found, drawn.logprobs, is_usable)


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
