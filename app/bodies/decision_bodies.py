"""The bodies of `POST /v1/systemone`: typed questions about a state, answered with probabilities.

The request and answer shapes are those of the System One API, which vLLM, SGLang, llama.cpp and
`transformers serve` answer too. Text only: `assets` are refused.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from app.bodies.response_model import ResponseModel
from app.bodies.strict_model import StrictModel
from app.bodies.structured_outputs import is_text

MAX_QUESTIONS = 64
MAX_OPTIONS = 26  # their labels are the letters of the alphabet

Content = str | dict[str, Any] | list[Any]


class NoulQuestion(StrictModel):
    """A question to be answered with yes or no."""

    type: Literal["noul"]
    instructions: Content | None = None
    criteria: dict[Literal["true", "false"], Content | None] | None = Field(
        default=None, description="What counts as true, and as false."
    )


class ChoiceQuestion(StrictModel):
    """A question whose answer is one of several options."""

    type: Literal["choice"]
    instructions: Content | None = None
    criteria: Annotated[dict[str, Content | None], Field(min_length=1, max_length=MAX_OPTIONS)] = (
        Field(description="The options, and what each means.")
    )


class ScoreQuestion(StrictModel):
    """A question whose answer is a level, from the lowest to the highest."""

    type: Literal["score"]
    instructions: Content | None = None
    criteria: Annotated[list[Content], Field(min_length=1, max_length=MAX_OPTIONS)] = Field(
        description="What each level means, the lowest first."
    )


Question = Annotated[
    Annotated[NoulQuestion, Tag("noul")]
    | Annotated[ChoiceQuestion, Tag("choice")]
    | Annotated[ScoreQuestion, Tag("score")],
    Field(discriminator="type"),
]


class DecisionRequest(StrictModel):
    """A state and questions about it."""

    model: str | None = Field(default=None, description="Any name; one model is served.")
    state: Content = Field(description="What the questions are about: a text, or JSON.")
    questions: Annotated[dict[str, Question], Field(min_length=1, max_length=MAX_QUESTIONS)] = (
        Field(description="Questions by a name of your own.")
    )

    @field_validator("state", "questions", mode="before")
    @classmethod
    def _holds_text(cls, value: object) -> object:
        if not is_text(value):
            raise PydanticCustomError(
                "no_text",
                "Holds half of a surrogate pair, which is no character; send both or none",
            )
        return value


class NoulAnswer(ResponseModel):
    """How likely the answer is yes."""

    type: Literal["noul"] = "noul"
    noul: float


class ChoiceAnswer(ResponseModel):
    """The most likely option."""

    type: Literal["choice"] = "choice"
    choice: str
    confidence: float = Field(description="0: no better than chance; 1: certain.")
    probabilities: dict[str, float]


class ScoreAnswer(ResponseModel):
    """The expected level."""

    type: Literal["score"] = "score"
    score: float
    legend: dict[str, Content]
    confidence: float = Field(description="0: spread over all levels; 1: certain.")
    probabilities: dict[str, float]


class DecisionUsage(ResponseModel):
    """Tokens read; none are written."""

    input_tokens: int
    output_tokens: int = 0


class DecisionResponse(ResponseModel):
    """The answers by the names of the questions."""

    model: str
    answers: dict[str, NoulAnswer | ChoiceAnswer | ScoreAnswer]
    usage: DecisionUsage
