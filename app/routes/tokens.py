"""What a prompt is to the model: `/tokenize`, `/detokenize`, `/apply_template`. No logic here."""

from typing import Annotated

from fastapi import APIRouter

from app.bodies.by_inputs import ByInputs
from app.bodies.token_bodies import (
    ApplyTemplateRequest,
    ApplyTemplateResponse,
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from app.generation.generator import TextGenerator
from app.http.dependencies import GeneratorDep
from app.routes.generate import ERROR_RESPONSES
from app.tgi.tokens import SimpleToken, TgiTokenizeRequest, simple_tokens

TokenizeBody = Annotated[
    TokenizeRequest | TgiTokenizeRequest, ByInputs(ours=TokenizeRequest, tgi=TgiTokenizeRequest)
]


def build_router() -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["tokens"], responses=ERROR_RESPONSES)

    @router.post("/tokenize", summary="The tokens of a text or a conversation")
    async def tokenize(
        body: TokenizeBody, generator: GeneratorDep
    ) -> TokenizeResponse | list[SimpleToken]:
        """The tokens that POST /generate begins with; a body with `inputs` is answered as TGI."""
        if isinstance(body, TgiTokenizeRequest):
            return simple_tokens(await generator.prompts.tokenize(body.inputs), generator.prompts)
        return await _tokenize(body, generator)

    @router.post("/detokenize", summary="The text of tokens")
    async def detokenize(body: DetokenizeRequest, generator: GeneratorDep) -> DetokenizeResponse:
        """What the tokens say together, which their texts alone do not always tell."""
        text = await generator.prompts.detokenize(
            body.tokens, skip_special_tokens=body.skip_special_tokens
        )
        return DetokenizeResponse(text=text, prompt=text)

    async def apply_template(
        body: ApplyTemplateRequest, generator: GeneratorDep
    ) -> ApplyTemplateResponse:
        """The prompt that the model's chat template makes of a conversation."""
        conversation = tuple(message.as_message() for message in body.messages)
        return ApplyTemplateResponse(prompt=await generator.prompts.render(conversation))

    summary = "The prompt that a conversation becomes"
    router.post("/apply_template", summary=summary)(apply_template)
    router.post("/apply-template", include_in_schema=False)(apply_template)  # as llama.cpp's
    return router


async def _tokenize(body: TokenizeRequest, generator: TextGenerator) -> TokenizeResponse:
    reader = generator.prompts
    conversation = tuple(message.as_message() for message in body.messages or ())
    tokenized = await reader.tokenize(
        conversation if body.text is None else body.text,
        add_special_tokens=body.add_special_tokens is not False,
    )
    return TokenizeResponse(
        tokens=list(tokenized.token_ids),
        texts=[reader.codec.token_text(each) for each in tokenized.token_ids],
        offsets=None if tokenized.spans is None else list(tokenized.spans),
        count=len(tokenized.token_ids),
        prompt=tokenized.text,
        max_model_len=reader.context_length,
    )
