"""`POST /generate` in its forms that answer at once: whole, streamed, and through the cache.

Decodes a body, starts it, encodes what comes. Whatever can be refused is refused before the
response begins, a stream's included. The form that answers later is in `routes/jobs.py`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.bodies.by_inputs import ByInputs
from app.bodies.request_fields import GenerateBody
from app.bodies.request_models import Example, StrategyUnion
from app.bodies.schemas import AnyResponse, ErrorResponse
from app.errors import InvalidRequest
from app.generation.answers import PendingAnswer, begin
from app.generation.generator import TextGenerator
from app.http.dependencies import GeneratorDep, ServicesDep
from app.http.disconnect import run_until_disconnect
from app.http.sse import EventStreamResponse, frames_of, open_stream
from app.text.request import TextRequest
from app.tgi import answers as tgi
from app.tgi.request import TgiRequest, TgiUnion
from app.tgi.responses import TgiErrorResponse, TgiResponse
from decoding.base import Strategy

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body is not a JSON object."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    415: {"model": ErrorResponse, "description": "The body is not declared as JSON."},
    422: {"model": ErrorResponse, "description": "A field is wrong; `param` names it."},
    500: {"model": ErrorResponse, "description": "The model failed on this request."},
    503: {
        "model": ErrorResponse,
        "description": "Loading, stopping or overloaded; try again after `Retry-After` seconds.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}}},
    },
}
EITHER_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    **{
        status: {**shown, "model": ErrorResponse | TgiErrorResponse}
        for status, shown in ERROR_RESPONSES.items()
    },
    424: {"model": TgiErrorResponse, "description": "To TGI's clients: the model failed."},
    429: {
        "model": ErrorResponse | TgiErrorResponse,
        "description": "Too much in this minute; to TGI's clients: overloaded.",
    },
}
CACHE_HEADER = {
    "X-Cache": {
        "description": "HIT: answered by an identical request's generation. MISS: generated, and "
        "kept for the next. BYPASS: the cache was not used. A list that mixes them says MISS.",
        "schema": {"type": "string", "enum": ["HIT", "MISS", "BYPASS"]},
    }
}
TGI_EXAMPLE = {
    "tgi": Example(
        summary="As a client of text-generation-inference writes it.",
        value={"inputs": "The best way to learn a language is", "parameters": {"details": True}},
    )
}
STREAM_EXAMPLE = (
    'event: token\ndata: {"index":0,"text":" hello","token_ids":[28120]}\n\n'
    'event: done\ndata: {"generated_text":"Say hello", ...}\n\n'
)


def build_router(strategies: Mapping[str, type[Strategy]], tgi_union: TgiUnion) -> APIRouter:
    """The routes, with a body model for each strategy; `tgi_union` is that of TGI's clients."""
    router = APIRouter(tags=["generate"], responses=ERROR_RESPONSES)
    union = StrategyUnion(strategies)
    body_info = Body(openapi_examples=union.examples)  # type: ignore[arg-type]
    either = ByInputs(ours=Annotated[GenerateBody, union], tgi=tgi_union.model)
    either_info = Body(openapi_examples=union.examples | TGI_EXAMPLE)  # type: ignore[arg-type]

    @router.post(
        "/generate",
        response_model=AnyResponse | TgiResponse,
        responses={
            **EITHER_ERROR_RESPONSES,
            200: {"headers": CACHE_HEADER, "description": "The generated text."},
        },
        summary="Continue a text or a conversation",
    )
    async def generate(
        body: Annotated[GenerateBody | TgiRequest, either, either_info],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """Continue `text`, each text of a list, or the conversation in `messages`.

        `strategy` decides how tokens are chosen and which further fields there are. A list is
        answered with `results` in its order; a text of it that fails has an `error` in its place,
        and only if all fail does the request fail, with the status of the first.

        A body with `inputs` is that of a client of text-generation-inference (TGI), and is answered
        as TGI would, failures included.
        """
        if isinstance(body, TgiRequest):
            silence = services.settings.sse_keep_alive_seconds
            return await _answer_tgi(body, generator, request, silence)
        return await run_until_disconnect(
            request.receive, _answer(generator, body.as_requests(), is_list=body.is_list)
        )

    @router.post(
        "/generate_cached",
        response_model=AnyResponse,
        responses={200: {"headers": CACHE_HEADER, "description": "The generated text."}},
        summary="Generate through the response cache, always",
    )
    async def generate_cached(
        body: Annotated[GenerateBody, union, body_info], generator: GeneratorDep, request: Request
    ) -> Response:
        """As `POST /generate` with `cache: true`.

        A random request without a seed is answered from the cache too: its first answer is given
        to all who repeat it. `cache: false` is refused.
        """
        if body.cache is False:
            raise InvalidRequest(
                "This endpoint always uses the cache; leave it out, or use POST /generate.",
                param="cache",
            )
        requests = [replace(request, cache=True) for request in body.as_requests()]
        return await run_until_disconnect(
            request.receive, _answer(generator, requests, is_list=body.is_list)
        )

    @router.post(
        "/generate/stream",
        response_class=EventStreamResponse,
        status_code=200,
        responses={
            200: {
                "description": "Server-sent events: `token` with new tokens of a sequence "
                "(`index`, `text`, `token_ids`) as they come, then one `done` with what POST "
                "/generate answers, or one `error`. The texts of an index join to the text that "
                "was generated; they never repeat the prompt. With several beams to return, all "
                "tokens come at the end.",
                "headers": CACHE_HEADER,
                "content": {"text/event-stream": {"example": STREAM_EXAMPLE}},
            }
        },
        summary="Generate, and send tokens as they come",
    )
    async def stream(
        body: Annotated[GenerateBody, union, body_info],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """As `POST /generate` for one prompt, as a stream of server-sent events.

        The response begins with the first token. If that takes long, it begins without one, and
        comments (`: keep-alive`) fill the silence; what fails after that is an `error` event.
        """
        if body.is_list:
            raise InvalidRequest(
                "A stream answers one text; send each text of a list in a request of its own.",
                param="text",
            )
        return await run_until_disconnect(
            request.receive,
            _stream(generator, body.as_requests()[0], services.settings.sse_keep_alive_seconds),
        )

    return router


async def _answer_tgi(
    body: TgiRequest, generator: TextGenerator, request: Request, keep_alive_seconds: float
) -> Response:
    call = body.as_call().with_full_text(by_default=False)
    if body.stream:
        return await tgi.stream(call, generator, request, keep_alive_seconds=keep_alive_seconds)
    return await tgi.answer(call, generator, request)


async def _answer(
    generator: TextGenerator, requests: list[TextRequest], *, is_list: bool
) -> Response:
    pending = await begin(generator, requests, is_list=is_list)
    try:
        return _encode(await pending.answer(), pending)
    finally:
        pending.close()


def _encode(answer: AnyResponse, pending: PendingAnswer) -> Response:
    return Response(
        answer.model_dump_json(),
        media_type="application/json",
        headers={"X-Cache": pending.cache_outcome.upper()},
    )


async def _stream(
    generator: TextGenerator, request: TextRequest, keep_alive_seconds: float
) -> Response:
    subscription = await open_stream(generator, request, keep_alive_seconds=keep_alive_seconds)
    return EventStreamResponse(
        frames_of(subscription, generator.presenter, keep_alive_seconds=keep_alive_seconds),
        close=subscription.close,
        headers={"X-Cache": subscription.outcome.upper()},
    )
