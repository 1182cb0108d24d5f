"""Follows one request's decode and makes a trace of it. The engine writes it, one per group.

It sees what every strategy shows: rows, candidates, and decisions that say which rows go on with
which token. What does not go on has ended, which the request's task can tell, or was passed over;
strategies that know more say so in their verdicts. No torch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from decoding.base import Candidate, Decision, DecodingRow, FinishReason, Hypothesis, Task
from decoding.considered import Considered, Outcome, Outlook, Verdict
from engine.shown import Shown
from engine.trace import Trace, TracedCandidate, TraceOptions
from engine.trace_tree import Node, build_trace

MAX_CANDIDATES = 10_000  # of a trace; the place at which they become so many is the last


@dataclass(frozen=True, slots=True)
class _Place:
    """A row that a decision is about: its node, and what it might go on with."""

    row: DecodingRow
    found: Sequence[Candidate]
    outlook: Outlook
    node: Node | None  # None: not followed any more


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What became of one of a place's candidates."""

    at: int  # which place
    token_id: int
    outcome: Outcome
    index: int  # of the sequence that it is about
    logprob: float = -math.inf  # for a token of which nothing else is known
    score: float | None = None
    final_score: float | None = None


class Tracer:
    """The tree so far. Written by the engine's thread only."""

    def __init__(self, options: TraceOptions, task: Task) -> None:
        self._options = options
        self._task = task
        root = Node(parent=None, depth=0, index=0, score=0.0)
        self._nodes = [root]
        self._heads: dict[int, Node | None] = {0: root}  # by row; None: not followed any more
        self._outlooks: Sequence[Sequence[Outlook]] = ()  # of this step's rows
        self._num_candidates = 0
        self._is_truncated = False

    @property
    def num_candidates(self) -> int:
        """How many of the most likely tokens to consider."""
        return self._options.num_candidates

    @property
    def is_open(self) -> bool:
        """Whether there is anything left to note."""
        return any(head is not None for head in self._heads.values())

    def consider(self, outlooks: Sequence[Sequence[Outlook]]) -> None:
        """Begin a step: what might follow each row, and the row after each of its drafts."""
        self._outlooks = outlooks
        self._heads = dict(enumerate(self._heads[at] for at in sorted(self._heads)))

    def note(
        self,
        decision: Decision,
        found: Sequence[Sequence[Candidate]],
        rows: Sequence[DecodingRow],
        shown: Shown | None,
    ) -> None:
        """A decision about all rows of the step, or about those `shown`.

        All rows: those that go on are the next step's, in their order. Others keep their places.
        """
        if not self.is_open:
            return
        at = range(len(rows)) if shown is None else shown.at
        places = self._places(rows, found, at, 0 if shown is None else shown.num_drafts)
        grown = self._grow(places, decision)
        if shown is None:
            self._heads = dict(enumerate(grown))
            return
        for each in at:
            del self._heads[each]
        for child, node in zip(decision.live, grown, strict=True):
            self._heads[at[child.parent]] = node

    def trace(self, results: Sequence[Hypothesis]) -> Trace:
        """All of it, when the request has ended with these sequences."""
        return build_trace(self._nodes, results, is_truncated=self._is_truncated)

    def _places(
        self,
        rows: Sequence[DecodingRow],
        found: Sequence[Sequence[Candidate]],
        at: Sequence[int],
        num_drafts: int,
    ) -> list[_Place]:
        return [
            _Place(row, candidates, self._outlooks[each][num_drafts], self._heads[each])
            for row, candidates, each in zip(rows, found, at, strict=True)
        ]

    def _grow(self, places: Sequence[_Place], decision: Decision) -> list[Node | None]:
        """Add what a decision makes of its rows; the nodes of those that go on, in their order."""
        told = [*_going_on(decision), *self._stopping(places, decision)]
        by_place: dict[int, list[_Told]] = {}
        for each in told:
            by_place.setdefault(each.at, []).append(each)
        followed = [self._follow(place, by_place.get(at, [])) for at, place in enumerate(places)]
        grown = [
            self._add(followed[each.at], places[each.at], each, decision.results)
            for each in told
            if each.outcome in (Outcome.CONTINUED, Outcome.FINISHED)
        ]
        return grown[: len(decision.live)]

    def _stopping(self, places: Sequence[_Place], decision: Decision) -> Iterator[_Told]:
        """What does not go on: as the strategy tells, else what was drawn and has ended."""
        if decision.verdicts is not None:
            yield from (_passed(verdict, places) for verdict in decision.verdicts)
            return
        going_on = {(child.parent, child.token_id) for child in decision.live}
        for at, place in enumerate(places):
            for offset, candidate in enumerate(place.found):
                token_id = candidate.token_id
                if place.outlook.has_scores or (at, token_id) in going_on:
                    continue  # of candidates that are ranked, the results will tell
                if self._finish_reason(place.row, token_id, decision.results) is not None:
                    index = place.row.index + offset
                    yield _Told(at=at, token_id=token_id, outcome=Outcome.FINISHED, index=index)

    def _finish_reason(
        self, row: DecodingRow, token_id: int, results: Sequence[Hypothesis]
    ) -> FinishReason | None:
        generated_ids = (*row.generated_ids, token_id)
        for result in results:
            if result.token_ids == generated_ids:
                return result.finish_reason
        return self._task.finish_reason(generated_ids)

    def _follow(self, place: _Place, told: Sequence[_Told]) -> Node | None:
        """The place's node, with its candidates noted, if there is room for them."""
        node = place.node
        if node is None:
            return None
        if node.depth >= self._options.max_steps or self._num_candidates >= MAX_CANDIDATES:
            self._is_truncated = True
            return None
        by_token = {each.token_id: each for each in reversed(told)}  # of several, the first counts
        node.candidates = [
            _candidate(each, by_token.get(each.token_id), place)
            for each in place.outlook.candidates
            if each.is_likely or each.token_id in by_token
        ]
        self._num_candidates += len(node.candidates)
        return node

    def _add(
        self, parent: Node | None, place: _Place, told: _Told, results: Sequence[Hypothesis]
    ) -> Node | None:
        """The node of a text with one more token, if its parent is followed."""
        if parent is None:
            return None
        token = _considered(place.outlook, told)
        has_ended = told.outcome is Outcome.FINISHED
        reason = self._finish_reason(place.row, told.token_id, results) if has_ended else None
        node = Node(
            parent=parent,
            depth=parent.depth + 1,
            index=told.index,
            token_id=token.token_id,
            logprob=token.logprob,
            processed_logprob=token.processed_logprob,
            score=_score(place, token) if told.score is None else told.score,
            final_score=told.final_score,
            finish_reason=reason,
            has_ended=has_ended,
        )
        self._nodes.append(node)
        return node


def _going_on(decision: Decision) -> Iterator[_Told]:
    for child in decision.live:
        yield _Told(
            at=child.parent,
            token_id=child.token_id,
            outcome=Outcome.CONTINUED,
            index=child.index,
            logprob=child.logprob,
            score=child.score,
        )


def _passed(verdict: Verdict, places: Sequence[_Place]) -> _Told:
    return _Told(
        at=verdict.parent,
        token_id=verdict.token_id,
        outcome=verdict.outcome,
        index=places[verdict.parent].row.index,
        score=verdict.score,
        final_score=verdict.final_score,
    )


def _candidate(token: Considered, told: _Told | None, place: _Place) -> TracedCandidate:
    if told is not None:
        outcome = told.outcome
    elif token.score == -math.inf:
        outcome = Outcome.FILTERED
    else:
        outcome = Outcome.OUTRANKED if place.outlook.has_scores else Outcome.NOT_CHOSEN
    told_score = None if told is None else told.score
    return TracedCandidate(
        token_id=token.token_id,
        logprob=token.logprob,
        processed_logprob=token.processed_logprob,
        outcome=outcome,
        score=_score(place, token) if told_score is None else told_score,
    )


def _score(place: _Place, token: Considered) -> float | None:
    """What the sequence would be worth with this token, where the strategy ranks at all."""
    if place.node is None or place.node.score is None or not place.outlook.has_scores:
        return None
    return place.node.score + token.score


def _considered(outlook: Outlook, told: _Told) -> Considered:
    """What is known of a token; little if the strategy was not offered it."""
    found = (each for each in outlook.candidates if each.token_id == told.token_id)
    unknown = Considered(
        token_id=told.token_id,
        logprob=told.logprob,
        score=-math.inf,
        processed_logprob=-math.inf,
        is_likely=False,
    )
    return next(found, unknown)
