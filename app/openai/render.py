"""`POST /v1/chat/completions/render` and `/v1/completions/render`: what a request's prompt becomes.

vLLM's names, for routers that send requests which begin alike to one replica: vllm-router asks
this of each replica, keeps the tokens in a tree, and finds out who has seen the longest part.
Takes the very bodies of the routes below which they stand, and generates nothing.
"""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import Field

from app.bodies.response_model import ResponseModel
from app.errors import ModelNotFound
from app.generation.generator import TextGenerator
from app.http.dependencies import GeneratorDep
from app.openai.chat_bodies import ChatBody
from app.openai.completion_bodies import CompletionBody
from app.openai.fields import OpenAIFields
from app.openai.routes import OPENAI_ERROR_RESPONSES, build_unions
from decoding.base import Strategy


class RenderedPrompt(ResponseModel):
    """A prompt as the model reads it."""

    token_ids: list[int] = Field(description="Its tokens, those of a chat template included.")
    model: str = Field(description="The model whose tokens they are.")


def build_router(strategies: Mapping[str, type[Strategy]]) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1", tags=["openai"], responses=OPENAI_ERROR_RESPONSES)
    completions, chats, _ = build_unions(strategies)

    @router.post("/chat/completions/render", summary="The tokens of a conversation, as vLLM's")
    async def render_chat(
        body: Annotated[ChatBody, chats, Body(openapi_examples=chats.examples)],
        generator: GeneratorDep,
    ) -> RenderedPrompt:
        """The tokens that the answer to this body would begin after."""
        (rendered,) = await _render(body, generator)
        return rendered

    @router.post("/completions/render", summary="The tokens of prompts, as vLLM's")
    async def render_completions(
        body: Annotated[CompletionBody, completions, Body(openapi_examples=completions.examples)],
        generator: GeneratorDep,
    ) -> list[RenderedPrompt]:
        """The tokens of each prompt, in order."""
        return await _render(body, generator)

    return router


async def _render(body: OpenAIFields, generator: TextGenerator) -> list[RenderedPrompt]:
    served = generator.presenter.model_name
    if body.model not in (None, served):
        raise ModelNotFound(str(body.model), served)
    requests = body.as_requests()
    generator.request_limits.check_texts(len(requests), param="prompt")
    return [
        RenderedPrompt(token_ids=list(await generator.prompt_ids(each)), model=served)
        for each in requests
    ]
