"""OpenAI's routes: `/v1/models`, `/v1/completions`, `/v1/chat/completions`, `/v1/responses`.

Decode a body, start its generations, encode what comes. No logic here.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.bodies.response_model import ResponseModel
from app.errors import ModelNotFound
from app.generation.generator import TextGenerator
from app.generation.subscription import CacheOutcome, Subscription
from app.http.dependencies import GeneratorDep, ServicesDep
from app.http.disconnect import run_until_disconnect
from app.http.sse import EventStreamResponse
from app.openai.answers import ChatCompletion, Completion, ModelCard, ModelList
from app.openai.chat_bodies import ChatBody
from app.openai.completion_bodies import CompletionBody
from app.openai.fields import OpenAIFields, OpenAIUnion
from app.openai.presentation import Answered, Heading, present_chat, present_completion
from app.openai.response_answers import ResponseAnswer
from app.openai.response_bodies import ResponseBody
from app.openai.response_presentation import ResponsePresenter
from app.openai.response_streaming import response_frames
from app.openai.streaming import ChatChunkWriter, CompletionChunkWriter, frames_of
from app.routes.generate import CACHE_HEADER, ERROR_RESPONSES
from app.state import Services
from app.text.request import TextRequest
from decoding.base import Strategy

_INVALID = ERROR_RESPONSES[422]
OPENAI_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {**_INVALID, "description": "The body or a field is wrong; `param` names it."},
    404: {**_INVALID, "description": "There is no such model here."},
    "4XX": {**_INVALID, "description": "Something else is wrong with the request."},
    500: ERROR_RESPONSES[500],
    503: ERROR_RESPONSES[503],
}
STREAM_CONTENT = {
    "text/event-stream": {"example": 'data: {"choices": [...], ...}\n\ndata: [DONE]\n\n'}
}

logger = logging.getLogger(__name__)


def build_unions(
    strategies: Mapping[str, type[Strategy]],
) -> tuple[OpenAIUnion, OpenAIUnion, OpenAIUnion]:
    """The bodies of completions, of chats and of responses."""
    return (
        OpenAIUnion(strategies, CompletionBody),
        OpenAIUnion(strategies, ChatBody),
        OpenAIUnion(strategies, ResponseBody),
    )


def build_router(
    strategies: Mapping[str, type[Strategy]], *, wall_clock: Callable[[], float] = time.time
) -> APIRouter:
    """The routes, with a body model for each strategy; `wall_clock` gives seconds since 1970."""
    router = APIRouter(prefix="/v1", tags=["openai"], responses=OPENAI_ERROR_RESPONSES)
    completions, chats, asked = build_unions(strategies)

    @router.get("/models", summary="The model that is served")
    async def models(services: ServicesDep, generator: GeneratorDep) -> ModelList:
        """A list of one."""
        return ModelList(data=[_card(services, generator, wall_clock())])

    @router.get("/models/{model_id:path}", summary="One model")
    async def model(model_id: str, services: ServicesDep, generator: GeneratorDep) -> ModelCard:
        """The model of this name."""
        _check_model(model_id, generator)
        return _card(services, generator, wall_clock())

    @router.post(
        "/completions",
        response_model=Completion,
        responses={200: {"headers": CACHE_HEADER, "content": STREAM_CONTENT}},
        summary="Continue prompts, as OpenAI's API",
    )
    async def complete(
        body: Annotated[CompletionBody, completions, Body(openapi_examples=completions.examples)],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """Continue each prompt. Without `strategy` parameters mean what they do at OpenAI's."""
        heading = _open(body, generator, request, "cmpl", wall_clock())
        _log_origin(request, body.user, None)
        silence = services.settings.sse_keep_alive_seconds
        return await run_until_disconnect(
            request.receive, _complete(body, generator, heading, silence)
        )

    @router.post(
        "/chat/completions",
        response_model=ChatCompletion,
        responses={200: {"headers": CACHE_HEADER, "content": STREAM_CONTENT}},
        summary="Go on with a conversation, as OpenAI's API",
    )
    async def chat(
        body: Annotated[ChatBody, chats, Body(openapi_examples=chats.examples)],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """Answer a conversation. Without `strategy` parameters mean what they do at OpenAI's."""
        heading = _open(body, generator, request, "chatcmpl", wall_clock())
        _log_origin(request, body.user, body.metadata)
        silence = services.settings.sse_keep_alive_seconds
        return await run_until_disconnect(request.receive, _chat(body, generator, heading, silence))

    @router.post(
        "/responses",
        response_model=ResponseAnswer,
        responses={200: {"headers": CACHE_HEADER, "content": STREAM_CONTENT}},
        summary="Respond to an input, as OpenAI's API",
    )
    async def respond(
        body: Annotated[ResponseBody, asked, Body(openapi_examples=asked.examples)],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """Say or call what follows the input. Nothing is stored: all of it is sent each time."""
        heading = _open(body, generator, request, "resp", wall_clock())
        _log_origin(request, body.user, body.metadata)
        silence = services.settings.sse_keep_alive_seconds
        return await run_until_disconnect(
            request.receive, _respond(body, generator, heading, silence)
        )

    return router


async def _respond(
    body: ResponseBody, generator: TextGenerator, heading: Heading, keep_alive_seconds: float
) -> Response:
    subscriptions = await _start_all(generator, body.as_requests())
    codec = generator.presenter.codec
    presenter = ResponsePresenter(heading=heading, body=body, codec=codec)
    if body.stream:
        (subscription,) = subscriptions
        frames = response_frames(subscription, presenter, keep_alive_seconds=keep_alive_seconds)
        return await _stream(subscriptions, frames, keep_alive_seconds)
    (answer,) = await _completed(subscriptions)
    return _encode(presenter.whole(answer), subscriptions)


async def _chat(
    body: ChatBody, generator: TextGenerator, heading: Heading, keep_alive_seconds: float
) -> Response:
    subscriptions = await _start_all(generator, body.as_requests())
    codec = generator.presenter.codec
    if body.stream:
        writer = ChatChunkWriter(heading, body, subscriptions[0].prepared, codec)
        frames = frames_of(subscriptions, writer, keep_alive_seconds=keep_alive_seconds)
        return await _stream(subscriptions, frames, keep_alive_seconds)
    (answer,) = await _completed(subscriptions)
    return _encode(present_chat(heading, body, answer, codec), subscriptions)


async def _complete(
    body: CompletionBody, generator: TextGenerator, heading: Heading, keep_alive_seconds: float
) -> Response:
    requests = body.as_requests()
    generator.request_limits.check_texts(len(requests), param="prompt")
    subscriptions = await _start_all(generator, requests)
    codec = generator.presenter.codec
    if body.stream:
        writer = CompletionChunkWriter(heading, body, subscriptions, codec)
        frames = frames_of(subscriptions, writer, keep_alive_seconds=keep_alive_seconds)
        return await _stream(subscriptions, frames, keep_alive_seconds)
    answers = await _completed(subscriptions)
    return _encode(present_completion(heading, body, answers, codec), subscriptions)


async def _start_all(
    generator: TextGenerator, requests: Sequence[TextRequest]
) -> list[Subscription]:
    """Start every prompt, or none: one that is refused ends those before it."""
    subscriptions: list[Subscription] = []
    listed = generator.for_list()
    with ExitStack() as unwinding:
        for request in requests:
            subscriptions.append(await listed.start(request))
            unwinding.callback(subscriptions[-1].close)
        unwinding.pop_all()
    return subscriptions


async def _completed(subscriptions: Sequence[Subscription]) -> list[Answered]:
    try:
        return [
            Answered(prepared=each.prepared, completed=await each.completed())
            for each in subscriptions
        ]
    finally:
        _close_all(subscriptions)


def _close_all(subscriptions: Sequence[Subscription]) -> None:
    for subscription in subscriptions:
        subscription.close()


async def _stream(
    subscriptions: Sequence[Subscription],
    frames: AsyncGenerator[bytes, None],
    keep_alive_seconds: float,
) -> Response:
    """A stream that begins with a token, as `app.http.sse.open_stream` says."""
    with ExitStack() as unwinding:
        unwinding.callback(_close_all, subscriptions)
        await subscriptions[0].begun(keep_alive_seconds)
        unwinding.pop_all()
    return EventStreamResponse(
        frames,
        close=partial(_close_all, subscriptions),
        headers=_cache_header(subscriptions),
    )


def _encode(answer: ResponseModel, subscriptions: Sequence[Subscription]) -> Response:
    return Response(
        answer.model_dump_json(),
        media_type="application/json",
        headers=_cache_header(subscriptions),
    )


def _cache_header(subscriptions: Sequence[Subscription]) -> dict[str, str]:
    outcomes = {subscription.outcome for subscription in subscriptions}
    outcome = outcomes.pop() if len(outcomes) == 1 else CacheOutcome.MISS
    return {"X-Cache": outcome.upper()}


def _open(
    body: OpenAIFields, generator: TextGenerator, request: Request, kind: str, now: float
) -> Heading:
    """Check the model's name and name the answer, after the request."""
    if body.model is not None:
        _check_model(body.model, generator)
    return Heading(
        id=f"{kind}-{request.state.request_id}",
        created=int(now),
        model=generator.presenter.model_name,
        system_fingerprint=generator.presenter.fingerprint,
    )


def _check_model(name: str, generator: TextGenerator) -> None:
    served = generator.presenter.model_name
    if name != served:
        raise ModelNotFound(name, served)


def _card(services: Services, generator: TextGenerator, now: float) -> ModelCard:
    assert services.worker is not None, "a generator has an engine"
    return ModelCard(
        id=generator.presenter.model_name,
        created=int(now - (services.clock() - services.started_at)),
        max_model_len=services.worker.limits.context_length,
    )


def _log_origin(request: Request, user: str | None, metadata: dict[str, str] | None) -> None:
    """Whom a request is for, where it says so: clients look for that in the log."""
    if user is not None or metadata is not None:
        logger.info("user=%r metadata=%r id=%s", user, metadata, request.state.request_id)
