"""The bodies of `POST /score`: a prompt and texts that may follow it, and how likely they are."""

from typing import Annotated

from pydantic import Field

from app.bodies.generation_fields import Text
from app.bodies.response_model import ResponseModel
from app.bodies.schemas import ShownToken
from app.bodies.strict_model import StrictModel

MAX_CONTINUATIONS = 64

Continuation = Annotated[str, Field(min_length=1, max_length=200_000)]


class ScoreRequest(StrictModel):
    """A prompt and the continuations to score, each on its own."""

    text: Text = Field(description="The prompt.")
    continuations: Annotated[
        list[Continuation], Field(min_length=1, max_length=MAX_CONTINUATIONS)
    ] = Field(
        description="Texts that may follow, as they are: a word after a space brings the space."
    )


class ScoredContinuation(ResponseModel):
    """One continuation."""

    index: int
    logprob: float = Field(description="The log-probability of all its tokens together.")
    mean_logprob: float = Field(description="The same over the number of tokens.")
    tokens: list[ShownToken]


class ScoreResponse(ResponseModel):
    """All continuations, in the order of the request."""

    results: list[ScoredContinuation]
    best: int = Field(description="The index of the most likely one.")
    input_length: int = Field(description="Prompt tokens.")
    model: str
