"""The paths that only TGI has: `POST /`, `/generate_stream`, `/chat_tokenize`. No logic here.

`POST /generate` and `/tokenize` are shared with our own API: `app/routes` hands bodies with
`inputs` on to `answers.py` and `tokens.py`.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from app.errors import InvalidRequest
from app.http.dependencies import GeneratorDep, ServicesDep
from app.http.sse import EventStreamResponse
from app.tgi.answers import answer, stream
from app.tgi.request import TgiRequest, TgiUnion
from app.tgi.responses import TgiErrorResponse, TgiResponse
from app.tgi.tokens import ChatTokenizeRequest, ChatTokenizeResponse, simple_tokens

TGI_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": TgiErrorResponse, "description": description}
    for status, description in {
        400: "The body is not JSON.",
        413: "The body is too large.",
        422: "A field is wrong; the message names it.",
        424: "The model failed on this request.",
        429: "Overloaded; try again after `Retry-After` seconds.",
        500: "The server failed.",
        503: "Loading or stopping; try again after `Retry-After` seconds.",
    }.items()
}
STREAM_CONTENT = {
    "text/event-stream": {
        "example": 'data:{"index":1,"token":{"id":28120,"text":" hello","logprob":-0.3,'
        '"special":false},"generated_text":null,"details":null}\n\n'
    }
}


def build_router(union: TgiUnion) -> APIRouter:
    """The routes, with the bodies of `union`."""
    router = APIRouter(tags=["tgi"], responses=TGI_ERROR_RESPONSES)

    @router.post(
        "/",
        response_model=list[TgiResponse],
        responses={200: {"content": STREAM_CONTENT, "description": "The text, in a list."}},
        summary="Continue a text, as TGI's compatible route",
    )
    async def compatible(
        body: Annotated[TgiRequest, union],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """As `POST /generate` with `inputs`, but generated_text begins with the prompt."""
        call = body.as_call().with_full_text(by_default=True)
        if body.stream:
            silence = services.settings.sse_keep_alive_seconds
            return await stream(call, generator, request, keep_alive_seconds=silence)
        return await answer(call, generator, request, as_list=True)

    @router.post(
        "/generate_stream",
        response_class=EventStreamResponse,
        status_code=200,
        responses={200: {"content": STREAM_CONTENT, "description": "A token an event."}},
        summary="Continue a text, and send tokens as they come, as TGI",
    )
    async def generate_stream(
        body: Annotated[TgiRequest, union],
        generator: GeneratorDep,
        services: ServicesDep,
        request: Request,
    ) -> Response:
        """Server-sent events of `data` only; a failure is one with `error` and `error_type`."""
        if body.stream is False:
            raise InvalidRequest(
                "This path always streams; leave it out, or use POST /generate.", param="stream"
            )
        call = body.as_call().with_full_text(by_default=False)
        silence = services.settings.sse_keep_alive_seconds
        return await stream(call, generator, request, keep_alive_seconds=silence)

    @router.post("/chat_tokenize", summary="The prompt of a conversation and its tokens, as TGI")
    async def chat_tokenize(
        body: ChatTokenizeRequest, generator: GeneratorDep
    ) -> ChatTokenizeResponse:
        """What the model's chat template makes of the messages."""
        conversation = tuple(message.as_message() for message in body.messages)
        tokenized = await generator.prompts.tokenize(conversation)
        return ChatTokenizeResponse(
            tokenize_response=simple_tokens(tokenized, generator.prompts),
            templated_text=tokenized.text,
        )

    return router
