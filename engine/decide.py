"""One group's decision, with its failures kept to itself.

Strategies and stop checks may come from other packages, so whatever they raise, and whatever they
answer that cannot be carried out, ends their own request and no other.
"""

import logging
from collections.abc import Sequence

from decoding.ask import Ask, Asks, Best
from decoding.base import (
    CanBeCutShort,
    Candidate,
    Continuation,
    Decision,
    Emission,
    Hypothesis,
    ModelDepth,
)
from decoding.considered import Verdict
from decoding.errors import InvalidParameter
from decoding.independent import so_far
from engine.errors import ConstraintNotMet, DecodingFailed
from engine.sequence import Group
from engine.shown import Shown

logger = logging.getLogger(__name__)


class ImpossibleAnswer(Exception):
    """A decoder's answer that the engine cannot carry out."""


def decide(
    group: Group,
    found: Sequence[Sequence[Candidate]],
    vocab_size: int,
    shown: Shown | None = None,
) -> Decision | DecodingFailed:
    """Let the group's decoder continue it with the candidates `found` for each of its rows.

    Its rows are `shown` if they are not simply those of the group. Also asks the decoder what it
    wants next, and notes it in the group; whoever traces the request is told what was decided.
    """
    if not all(found):
        return DecodingFailed(
            "the scores of this request's next token are not finite, or its rules allow no token"
        )
    try:
        rows = group.rows if shown is None else shown.rows
        decision = group.decoder.advance(rows, found)
        _check_decision(group, decision, vocab_size, len(found))
        _check_reasons(decision, len(found))
        if decision.live:
            num_live = len(decision.live)
            group.ask = checked_ask(
                group.decoder.ask, num_rows=num_live, vocab_size=vocab_size, depth=group.depth
            )
        if group.tracer is not None:
            group.tracer.note(decision, found, rows, shown)
    except InvalidParameter as error:
        return ConstraintNotMet(error.message, field=error.field)
    except Exception as error:
        logger.exception("request %s: its strategy failed", group.request.request_id)
        return _failed(group, error)
    return decision


def cut_short(group: Group, vocab_size: int) -> Decision | DecodingFailed:
    """The answer so far of a group whose time is up: nothing of it is live any more."""
    try:
        decision = _cut_short(group)
        _check_decision(group, decision, vocab_size, len(group.rows))
        _require(not decision.live, "it goes on although its time is up")
    except Exception as error:
        logger.exception("request %s: its strategy failed", group.request.request_id)
        return _failed(group, error)
    return decision


def _cut_short(group: Group) -> Decision:
    if isinstance(group.decoder, CanBeCutShort):
        return group.decoder.cut_short(group.rows)
    rows = group.rows[: group.request.strategy.num_results]
    return Decision(results=tuple(map(so_far, rows)))


def _failed(group: Group, error: Exception) -> DecodingFailed:
    reason = f"strategy {group.request.strategy.name} failed: {type(error).__name__}"
    return DecodingFailed(reason)


def checked_ask(
    ask: Asks, *, num_rows: int, vocab_size: int, depth: ModelDepth | None = None
) -> Asks:
    """The ask itself, if it is one, or one for each of so many rows.

    A token to look up, or a layer, that the model lacks would fail the whole batch: the rows are
    read at once.

    Raises:
        ImpossibleAnswer: it is something else.
    """
    asks = ask if isinstance(ask, tuple) else (ask,) * num_rows
    if len(asks) != num_rows or not all(isinstance(each, Ask) for each in asks):
        raise ImpossibleAnswer(f"the ask is {ask!r}")
    for each in ask if isinstance(ask, tuple) else (ask,):
        for token_id in each.also if isinstance(each, Best) else ():
            _require(_is_below(token_id, vocab_size), "token {} does not exist", token_id)
        contrast = each.processing.contrast
        num_layers = 0 if depth is None else depth.num_layers
        for layer in () if contrast is None else contrast.layers:
            _require(_is_below(layer, num_layers), "nothing is told of layer {}", layer)
    return ask


def _check_decision(group: Group, decision: Decision, vocab_size: int, num_rows: int) -> None:
    _require(isinstance(decision, Decision), "the decision is {!r}", decision)
    max_rows, num_results = group.request.strategy.num_rows, group.request.strategy.num_results
    _require(len(decision.live) <= max_rows, "it continued too many rows")
    for child in decision.live:
        _require(isinstance(child, Continuation), "{!r} is no continuation", child)
        _require(_is_below(child.parent, num_rows), "row {} does not exist", child.parent)
        _require(_is_below(child.token_id, vocab_size), "token {} does not exist", child.token_id)
        _require(_is_below(child.index, max_rows), "no row has index {}", child.index)
    for emission in decision.emissions:
        _require(isinstance(emission, Emission), "{!r} is no emission", emission)
        _require(_is_below(emission.index, num_results), "no result has index {}", emission.index)
        is_tuple = isinstance(emission.token_ids, tuple)
        is_text = is_tuple and all(_is_below(each, vocab_size) for each in emission.token_ids)
        _require(is_text, "{!r} holds no tokens", emission)
    if not decision.live and (num_rows == len(group.rows) or decision.results):
        _require(
            0 < len(decision.results) <= num_results, "it ended with too few or many sequences"
        )
        for result in decision.results:
            _require(isinstance(result, Hypothesis), "{!r} is no hypothesis", result)
            is_text = all(_is_below(token_id, vocab_size) for token_id in result.token_ids)
            _require(is_text, "{!r} holds no tokens", result)


def _check_reasons(decision: Decision, num_rows: int) -> None:
    """What is told for those who look."""
    scores = [child.score for child in decision.live]
    for verdict in decision.verdicts or ():
        _require(isinstance(verdict, Verdict), "{!r} is no verdict", verdict)
        _require(_is_below(verdict.parent, num_rows), "row {} does not exist", verdict.parent)
        scores += (verdict.score, verdict.final_score)
    for score in scores:
        _require(isinstance(score, float | None), "the score is {!r}", score)


def _is_below(number: int, bound: int) -> bool:
    return type(number) is int and 0 <= number < bound


def _require(is_possible: bool, otherwise: str, *about: object) -> None:  # noqa: FBT001  a sentence
    if not is_possible:
        raise ImpossibleAnswer(otherwise.format(*about))
