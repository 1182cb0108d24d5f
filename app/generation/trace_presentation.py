"""A trace as clients get it: the tokens' texts beside their ids, and no infinities.

Called by `presentation.py` for requests that asked for one.
"""

import math
from collections.abc import Callable
from functools import cache

from app.bodies.trace_bodies import CandidateBody, NodeBody, TraceBody, TraceStep
from engine.trace import Trace, TracedCandidate, TraceNode

TextOf = Callable[[int], str]


def present_trace(trace: Trace, token_text: TextOf) -> TraceBody:
    """The body of a trace; `token_text` gives the text of a token alone."""
    text_of = cache(token_text)  # the same few tokens are likely again and again
    return TraceBody(
        steps=[TraceStep(nodes=[_node(each, text_of) for each in step]) for step in trace.steps],
        sequences=list(trace.ends),
        truncated=trace.is_truncated,
    )


def _node(node: TraceNode, text_of: TextOf) -> NodeBody:
    return NodeBody(
        id=node.id,
        parent=node.parent,
        index=node.index,
        token=node.token_id,
        text="" if node.token_id is None else text_of(node.token_id),
        logprob=_finite(node.logprob),
        processed_logprob=_finite(node.processed_logprob),
        score=_finite(node.score),
        final_score=_finite(node.final_score),
        finish_reason=node.finish_reason,
        candidates=[_candidate(each, text_of) for each in node.candidates],
    )


def _candidate(candidate: TracedCandidate, text_of: TextOf) -> CandidateBody:
    return CandidateBody(
        id=candidate.token_id,
        text=text_of(candidate.token_id),
        logprob=_finite(candidate.logprob),
        processed_logprob=_finite(candidate.processed_logprob),
        outcome=candidate.outcome,
        score=_finite(candidate.score),
    )


def _finite(number: float | None) -> float | None:
    """JSON has no infinities: a probability of zero has no logarithm there."""
    return number if number is not None and math.isfinite(number) else None
