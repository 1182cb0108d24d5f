"""The bodies that the service answers with. What it is asked is in `request_models.py`.

Only routes and `answers.py` build these; inside, answers are `app.generation.completion.Completed`.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, JsonValue

from app.bodies.response_model import ResponseModel, is_absent
from app.bodies.trace_bodies import TraceBody
from decoding.base import FinishReason


class ErrorDetail(ResponseModel):
    """One thing that is wrong."""

    type: str = Field(description="The kind of failure, e.g. `invalid_request_error`.")
    code: str = Field(description="The exact failure, for programs.")
    message: str = Field(description="What is wrong and what to do, for people.")
    param: str | None = Field(
        description="The request field to change, if it is one; `text.1` is the second of a list."
    )


class ErrorResponse(ResponseModel):
    """The body of every response that is not a success."""

    error: ErrorDetail
    errors: list[ErrorDetail] | None = Field(
        default=None,
        description="All problems, at most ten, where there are several.",
        exclude_if=is_absent,
    )


class SequenceResult(ResponseModel):
    """One of several generated sequences."""

    index: int
    generated_text: str
    output_length: int = Field(description="Prompt plus new tokens.")
    finish_reason: FinishReason
    score: float | None = Field(
        default=None,
        description="Beams: summed log-probability over length to the power length_penalty.",
        exclude_if=is_absent,
    )


class LikelyToken(ResponseModel):
    """A token that was likely at a place."""

    id: int
    text: str = Field(description="The token alone; half a character shows as U+FFFD.")
    logprob: float = Field(description="Its log-probability under the model.")


class ShownToken(ResponseModel):
    """One token of a text."""

    id: int
    text: str = Field(description="The token alone; half a character shows as U+FFFD.")
    logprob: float | None = Field(
        description="Its log-probability under the model; null for a prompt's first token."
    )
    top_logprobs: list[LikelyToken] | None = Field(
        default=None,
        description="The most likely tokens at its place, best first, if they were asked for.",
        exclude_if=is_absent,
    )


class GenerationTimings(ResponseModel):
    """Where the time went, in seconds. Of a cached answer: when it was generated."""

    queue_seconds: float = Field(description="Waiting to be scheduled.")
    prefill_seconds: float = Field(description="From then until the first token.")
    decode_seconds: float = Field(description="From the first token to the last.")
    total_seconds: float = Field(
        description="From the arrival of this request to its answer, tokenising included."
    )
    tokens_per_second: float = Field(
        description="New tokens of all sequences over prefill and decode time."
    )


class Details(ResponseModel):
    """What `details` adds."""

    timings: GenerationTimings
    num_cached_prompt_tokens: int = Field(
        description="Prompt tokens whose keys and values were in the engine's cache already."
    )
    num_preemptions: int = Field(description="How often it had to make room and begin again.")
    tokens: list[list[ShownToken]] = Field(description="The new tokens of each sequence.")
    prompt_tokens: list[ShownToken] | None = Field(
        default=None,
        description="The prompt's tokens, if `prompt_logprobs` asked for them.",
        exclude_if=is_absent,
    )
    trace: TraceBody | None = Field(
        default=None,
        description='The decode, if `details: {"trace": true}` asked for it.',
        exclude_if=is_absent,
    )


class GenerateResponse(ResponseModel):
    """The answer to one prompt."""

    generated_text: str = Field(
        description="The continuation, after the prompt if `return_full_text` is true; of several "
        "sequences the first, of beams the best."
    )
    input_length: int = Field(description="Prompt tokens.")
    output_length: int = Field(description="Prompt plus new tokens.")
    finish_reason: FinishReason = Field(
        description="`eos`: the model ended it; `stop`: a stop string; `length`: the limit."
    )
    strategy: str
    parameters: dict[str, JsonValue] = Field(
        description="All that decided the tokens, defaults filled in."
    )
    seed: int | None = Field(
        description="The seed that was used; null if none was given and none is needed."
    )
    cached: bool = Field(description="Whether an identical request's generation answered this.")
    model: str
    fingerprint: str = Field(
        description="Changes with the model, its weights, the runtime and the version: under the "
        "same one a request with a seed can be repeated."
    )
    score: float | None = Field(
        default=None, description="Beams: the score of the best one.", exclude_if=is_absent
    )
    sequences: list[SequenceResult] | None = Field(
        default=None, description="All sequences, where there are several.", exclude_if=is_absent
    )
    details: Details | None = Field(default=None, exclude_if=is_absent)


class ListResponse(ResponseModel):
    """The answers to a list of texts, in order. A text that failed has an error in its place."""

    results: list[GenerateResponse | ErrorResponse]


AnyResponse = GenerateResponse | ListResponse


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"  # waiting, or its prompt is being read: no token yet
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobResponse(ResponseModel):
    """The state of an asynchronous generation."""

    id: str
    status: JobStatus
    result: AnyResponse | None = Field(
        default=None, description="What POST /generate answers; once it succeeded."
    )
    error: ErrorDetail | None = Field(default=None, description="Why it failed.")


class StreamChunk(ResponseModel):
    """Data of a `token` event: new tokens of one sequence."""

    index: int = Field(description="Which sequence it belongs to.")
    text: str = Field(description="New text; empty while a character or a stop string may form.")
    token_ids: Annotated[list[int], Field(description="The tokens that brought it.")]
