"""What is told of a group: the events that `engine.py` hands on after a decision or a failure.

They say what happened and change nothing, save that a group's observations are read off as its
tokens become certain.
"""

from collections.abc import Sequence

from decoding.base import Emission, Hypothesis
from engine.errors import EngineError
from engine.messages import RequestFailed, RequestFinished, Timings, TokenEvent
from engine.sequence import Group


def token_events(group: Group, emissions: Sequence[Emission]) -> list[TokenEvent]:
    """Tokens that have become certain, with what would have been likely if that was asked for."""
    request = group.request
    return [
        TokenEvent(
            request_id=request.request_id,
            index=emission.index,
            token_ids=emission.token_ids,
            logprobs=emission.logprobs,
            alternatives=group.observed.next_alternatives(emission.index, emission.token_ids)
            if request.num_alternatives
            else (),
        )
        for emission in emissions
    ]


def finished(group: Group, results: tuple[Hypothesis, ...], now: float) -> RequestFinished:
    """The answer, with whatever else its request asked to see."""
    has_alternatives = group.request.num_alternatives > 0
    return RequestFinished(
        request_id=group.request.request_id,
        sequences=results,
        timings=_timings(group, now),
        alternatives=tuple(
            group.observed.alternatives_of(result.token_ids)
            for result in (results if has_alternatives else ())
        ),
        prompt_scores=group.observed.prompt_scores,
        trace=None if group.tracer is None else group.tracer.trace(results),
    )


def failed(group: Group, error: EngineError) -> RequestFailed:
    """That a group ends without an answer."""
    return RequestFailed(request_id=group.request.request_id, error=error)


def _timings(group: Group, now: float) -> Timings:
    assert group.started_at is not None, "a group that has an answer was started"
    first_token_at = now if group.first_token_at is None else group.first_token_at
    return Timings(
        queue_seconds=group.started_at - group.submitted_at,
        prefill_seconds=first_token_at - group.started_at,
        decode_seconds=now - first_token_at,
        num_cached_tokens=group.num_cached_tokens,
        num_preemptions=group.num_preemptions,
    )
