"""What `POST /v1/responses` answers with, whole and at the ends of its streams."""

from typing import Literal

from pydantic import Field, JsonValue

from app.bodies.response_model import ResponseModel, is_absent
from app.openai.answers import TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class TextPart(ResponseModel):
    """What is said."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = Field(default=[], description="Always empty.")
    logprobs: list[TokenLogprob] = Field(description="Empty if they were not asked for.")


class MessageAnswer(ResponseModel):
    """A message of the assistant."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: ItemStatus
    content: list[TextPart]


class CallAnswer(ResponseModel):
    """A call of a function."""

    type: Literal["function_call"] = "function_call"
    id: str
    call_id: str = Field(description="What the result of the call is to name.")
    name: str
    arguments: str = Field(description="A JSON object that satisfies the function's schema.")
    status: ItemStatus


OutputItem = MessageAnswer | CallAnswer


class InputDetails(ResponseModel):
    """What of the input was known already."""

    cached_tokens: int
    cache_write_tokens: int = Field(default=0, description="Writing costs nothing here.")


class OutputDetails(ResponseModel):
    """What of the output was thought."""

    reasoning_tokens: int = Field(default=0, description="Thinking is text here.")


class ResponseUsage(ResponseModel):
    """Tokens read and written."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFailure(ResponseModel):
    """Why a response failed while it was streamed."""

    code: str
    message: str


class IncompleteDetails(ResponseModel):
    """Why a response is incomplete."""

    reason: str


class ResponseAnswer(ResponseModel):
    """A response."""

    id: str
    object: Literal["response"] = "response"
    created_at: int = Field(description="Seconds since 1970.")
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    system_fingerprint: str = Field(
        description="Changes with the model, its weights, the runtime and the version: under the "
        "same one a request with a seed can be repeated."
    )
    output: list[OutputItem]
    usage: ResponseUsage | None = None
    instructions: str | None
    max_output_tokens: int | None
    parallel_tool_calls: bool
    previous_response_id: None = None
    store: Literal[False] = False
    background: Literal[False] = False
    temperature: float | None
    top_p: float | None
    top_logprobs: int
    text: dict[str, JsonValue]
    tool_choice: JsonValue
    tools: list[dict[str, JsonValue]]
    truncation: Literal["disabled"] = "disabled"
    metadata: dict[str, str]
    service_tier: Literal["default"] | None = Field(default=None, exclude_if=is_absent)
