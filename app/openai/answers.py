"""What OpenAI's routes answer with. Built by `presentation.py`; streams write chunks by hand."""

from typing import Literal

from pydantic import Field

from app.bodies.response_model import ResponseModel, is_absent


class CachedTokens(ResponseModel):
    """What of the prompt was known already."""

    cached_tokens: int = Field(
        description="Prompt tokens whose keys and values were in the engine's cache already."
    )


class Usage(ResponseModel):
    """Tokens of the whole request, over all prompts and choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class TopLogprob(ResponseModel):
    """A token that was likely at a place."""

    token: str = Field(description="Its text; half a character shows as U+FFFD.")
    logprob: float
    bytes: list[int] = Field(description="Its text's UTF-8 bytes, or its part of a character's.")


class TokenLogprob(TopLogprob):
    """A generated token."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(ResponseModel):
    """Each generated token, the one that ended the text included."""

    content: list[TokenLogprob]
    refusal: None = None


class CalledFunction(ResponseModel):
    """Which function is called, and with what."""

    name: str
    arguments: str = Field(description="A JSON object that satisfies the function's schema.")


class AnswerCall(ResponseModel):
    """A call that the assistant makes."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class AnswerMessage(ResponseModel):
    """What the assistant says or calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None = Field(description="null where it calls and says nothing.")
    refusal: None = None
    tool_calls: list[AnswerCall] | None = Field(default=None, exclude_if=is_absent)


class ChatChoice(ResponseModel):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str = Field(
        description="`stop`: the model or a stop string ended it; `tool_calls`: it calls "
        "functions; `length`: the limit, which may also cut a call."
    )
    score: float | None = Field(
        default=None, description="Of strategies that rank their answers.", exclude_if=is_absent
    )


class ChatCompletion(ResponseModel):
    """The answer to a conversation."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    system_fingerprint: str = Field(
        description="Changes with the model, its weights, the runtime and the version: under the "
        "same one a request with a seed can be repeated."
    )
    choices: list[ChatChoice]
    usage: Usage
    service_tier: Literal["default"] | None = Field(default=None, exclude_if=is_absent)
    metadata: dict[str, str] | None = Field(default=None, exclude_if=is_absent)


class CompletionLogprobs(ResponseModel):
    """Each token of the text, the one that ended it included; with echo the prompt's too."""

    tokens: list[str]
    token_logprobs: list[float | None] = Field(description="null: the first token of a prompt.")
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int] = Field(description="Where each begins in the text, in characters.")


class CompletionChoice(ResponseModel):
    """One text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str = Field(
        description="`stop`: the model or a stop string ended it; `length`: the limit."
    )
    score: float | None = Field(
        default=None, description="Of strategies that rank their answers.", exclude_if=is_absent
    )


class Completion(ResponseModel):
    """The texts of all prompts; of each prompt in order."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage
    service_tier: Literal["default"] | None = Field(default=None, exclude_if=is_absent)


class ModelCard(ResponseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When it was loaded, in seconds since 1970.")
    owned_by: str = "beamline"
    max_model_len: int = Field(description="Its context, in tokens of prompt and text together.")


class ModelList(ResponseModel):
    """All models that are served: one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
