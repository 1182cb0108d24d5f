"""What a subscription that has been closed tells logs and traces of its generation."""

from app.error_replies import describe
from app.errors import ClientDisconnected
from app.generation.subscription import CacheOutcome, Subscription
from app.telemetry.record import GenerationRecord


def record_of(subscription: Subscription, *, model: str, ended_at: float) -> GenerationRecord:
    """The record of a subscription, as far as its generation has come."""
    prepared, flight = subscription.prepared, subscription.flight
    request, completed = prepared.request, flight.completed
    sequences = () if completed is None else completed.sequences
    timings = None if completed is None else completed.timings
    lengths = [len(each.token_ids) for each in (sequences or flight.chunks)]
    return GenerationRecord(
        strategy=request.strategy.name,
        model=model,
        is_chat=isinstance(request.prompt, tuple),
        parameters=request.strategy_parameters,
        max_new_tokens=prepared.max_new_tokens,
        seed=flight.seed,
        cache=subscription.outcome,
        priority=request.urgency.priority,
        received_at=subscription.received_at,
        ended_at=ended_at,
        num_prompt_tokens=len(prepared.prompt_ids),
        num_generated_tokens=sum(lengths),
        finish_reasons=tuple(each.finish_reason.value for each in sequences),
        error=None if completed is not None else describe(flight.error or _NOBODY).code,
        submitted_at=None if subscription.outcome is CacheOutcome.HIT else flight.submitted_at,
        queue_seconds=None if timings is None else timings.queue_seconds,
        prefill_seconds=None if timings is None else timings.prefill_seconds,
        decode_seconds=None if timings is None else timings.decode_seconds,
        num_cached_tokens=0 if timings is None else timings.num_cached_tokens,
        prompt=prepared.prompt_text,
        text=sequences[0].text
        if sequences
        else "".join(chunk.text for chunk in flight.chunks if chunk.index == 0),
    )


_NOBODY = ClientDisconnected("Others wait for this generation still.")
