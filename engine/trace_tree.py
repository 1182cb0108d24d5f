"""The tree of a trace: nodes in the making, and what is made of them when the request has ended.

`engine.tracer` adds the nodes. Which of them the answer came from is known at the end only, as are
the ends of strategies that do not tell of them when they come. No torch.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from decoding.base import FinishReason, Hypothesis
from decoding.considered import Outcome
from engine.trace import Trace, TracedCandidate, TraceNode


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """A node in the making. Written by its tracer, then by `build_trace`."""

    parent: "Node | None"
    depth: int
    index: int
    token_id: int | None = None
    logprob: float | None = None
    processed_logprob: float | None = None
    score: float | None = None
    final_score: float | None = None
    finish_reason: FinishReason | None = None
    has_ended: bool = False
    candidates: list[TracedCandidate] = field(default_factory=list)


def build_trace(
    nodes: Sequence[Node], results: Sequence[Hypothesis], *, is_truncated: bool
) -> Trace:
    """The trace of a request that ended with these sequences; the first node is the root.

    Nodes are numbered by the length of their text and their sequence, in whatever order they came.
    """
    nodes = list(nodes)
    ends = _ends(nodes, results)
    ended = {(node.parent, node.token_id) for node in nodes if node.has_ended}
    surpassed: dict[Node | None, set[int | None]] = {}
    for parent, token_id in ended - {(end.parent, end.token_id) for end in ends}:
        surpassed.setdefault(parent, set()).add(token_id)
    ordered = sorted(nodes, key=lambda node: (node.depth, node.index))
    ids = {node: number for number, node in enumerate(ordered)}
    return Trace(
        steps=tuple(
            tuple(_frozen(node, ids, surpassed.get(node, ())) for node in step)
            for _, step in groupby(ordered, key=lambda node: node.depth)
        ),
        ends=tuple(ids[end] for end in ends),
        is_truncated=is_truncated,
    )


def _ends(nodes: list[Node], results: Sequence[Hypothesis]) -> list[Node]:
    """The last node of each sequence's text; sequences of the same text get different ones."""
    children: dict[tuple[Node | None, int | None], list[Node]] = {}
    for node in nodes:
        children.setdefault((node.parent, node.token_id), []).append(node)
    ends: list[Node] = []
    taken: set[Node] = set()
    for result in results:
        reached = nodes[:1]
        for at, token_id in enumerate(result.token_ids, start=1):
            further = [each for node in reached for each in children.get((node, token_id), ())]
            if not further and at == len(result.token_ids) and reached[0].candidates:
                further = [_late_end(reached[0], result)]
                nodes += further
            if not further:
                break
            reached = further
        end = next((each for each in reached if each not in taken), reached[0])
        if (
            end.depth == len(result.token_ids) and not end.has_ended
        ):  # a row chosen after it went on
            end.has_ended, end.finish_reason, end.candidates = True, result.finish_reason, []
        ends.append(end)
        taken.add(end)
    return ends


def _late_end(parent: Node, result: Hypothesis) -> Node:
    """The end of a sequence whose strategy did not tell of it when it came."""
    token_id, processed = result.token_ids[-1], -math.inf
    *_, logprob = (-math.inf, *result.logprobs)
    for at, each in enumerate(parent.candidates):
        if each.token_id == token_id:
            parent.candidates[at] = replace(each, outcome=Outcome.FINISHED)
            logprob, processed = each.logprob, each.processed_logprob
    return Node(
        parent=parent,
        depth=parent.depth + 1,
        index=parent.index,
        token_id=token_id,
        logprob=logprob,
        processed_logprob=processed,
        final_score=result.score,
        finish_reason=result.finish_reason,
        has_ended=True,
    )


def _frozen(node: Node, ids: Mapping[Node, int], surpassed: Collection[int | None]) -> TraceNode:
    """A node as it is shown; `surpassed` are its candidates that ended for nothing."""
    return TraceNode(
        id=ids[node],
        parent=None if node.parent is None else ids[node.parent],
        index=node.index,
        token_id=node.token_id,
        logprob=node.logprob,
        processed_logprob=node.processed_logprob,
        score=None if node.parent is None else node.score,
        final_score=node.final_score,
        finish_reason=node.finish_reason,
        candidates=tuple(
            replace(each, outcome=Outcome.SURPASSED) if each.token_id in surpassed else each
            for each in node.candidates
        ),
    )
