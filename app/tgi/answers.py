"""Has a call of TGI's API answered, whole or as a stream, on whichever path it came."""

from fastapi import Request, Response

from app.generation.completion import Completed
from app.generation.generator import TextGenerator
from app.generation.subscription import CacheOutcome, Subscription
from app.http.disconnect import run_until_disconnect
from app.http.sse import EventStreamResponse, open_stream
from app.tgi.call import TgiCall
from app.tgi.errors import speak_tgi
from app.tgi.presentation import present
from app.tgi.stream import frames_of


async def answer(
    call: TgiCall, generator: TextGenerator, request: Request, *, as_list: bool = False
) -> Response:
    """The whole answer; `as_list`: as the only one of a list.

    Raises:
        AppError, EngineError: the text could not be had.
    """
    speak_tgi(request)
    return await run_until_disconnect(request.receive, _answer(call, generator, as_list=as_list))


async def stream(
    call: TgiCall, generator: TextGenerator, request: Request, *, keep_alive_seconds: float
) -> Response:
    """The answer as an event stream, in which comments fill longer silences.

    Raises:
        InvalidRequest: a stream does not tell what is asked for.
        AppError, EngineError: the text could not be begun.
    """
    speak_tgi(request)
    call.check_stream()
    return await run_until_disconnect(request.receive, _stream(call, generator, keep_alive_seconds))


async def _answer(call: TgiCall, generator: TextGenerator, *, as_list: bool) -> Response:
    presenter = generator.presenter
    subscription = await generator.start(call.request)
    try:
        completed = await subscription.completed()
    finally:
        subscription.close()
    body = present(
        subscription.prepared, completed, presenter.codec, has_details=call.has_details
    ).model_dump_json()
    total_seconds = presenter.clock() - subscription.received_at
    return Response(
        f"[{body}]" if as_list else body,
        media_type="application/json",
        headers=_cache_header(subscription) | _figures(subscription, completed, total_seconds),
    )


async def _stream(call: TgiCall, generator: TextGenerator, keep_alive_seconds: float) -> Response:
    subscription = await open_stream(generator, call.request, keep_alive_seconds=keep_alive_seconds)
    return EventStreamResponse(
        frames_of(
            subscription,
            generator.presenter.codec,
            has_details=call.has_details,
            keep_alive_seconds=keep_alive_seconds,
        ),
        close=subscription.close,
        headers=_cache_header(subscription),
    )


def _cache_header(subscription: Subscription) -> dict[str, str]:
    return {"X-Cache": subscription.outcome.upper()}


def _figures(
    subscription: Subscription, completed: Completed, total_seconds: float
) -> dict[str, str]:
    """The headers in which TGI tells lengths, and times in milliseconds."""
    timings, num_tokens = completed.timings, len(completed.sequences[0].token_ids)
    is_cached = subscription.outcome is CacheOutcome.HIT
    queue = 0.0 if is_cached else timings.queue_seconds
    inference = 0.0 if is_cached else timings.prefill_seconds + timings.decode_seconds
    milliseconds = {
        "x-total-time": total_seconds,
        "x-queue-time": queue,
        "x-inference-time": inference,
        "x-time-per-token": inference / max(1, num_tokens),
    }
    return {
        "x-compute-time": f"{total_seconds:.6f}",
        "x-compute-characters": str(len(subscription.prepared.prompt_text)),
        "x-prompt-tokens": str(len(subscription.prepared.prompt_ids)),
        "x-generated-tokens": str(num_tokens),
    } | {name: str(round(seconds * 1000)) for name, seconds in milliseconds.items()}
