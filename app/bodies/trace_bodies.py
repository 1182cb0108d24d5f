"""The trace of a decode: how a body asks for one in `details`, and what it looks like.

`engine.trace` is the same in token ids; `app/generation/trace_presentation.py` makes one of the
other.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.bodies.response_model import ResponseModel, is_absent
from app.bodies.strict_model import StrictModel
from decoding.base import FinishReason
from decoding.considered import Outcome
from engine.trace import TraceOptions

MAX_CANDIDATES = 20
MAX_STEPS = 1024


class DetailsBody(StrictModel):
    """What to add to the answer besides timings and tokens."""

    trace: bool = Field(
        default=False,
        description="Add the decode itself: at each step the candidates that were considered, with "
        "their probabilities before and after processing and what became of them; of beams the "
        "tree.",
    )
    trace_candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = Field(
        default=8,
        description="How many of the most likely tokens to show at each place: so many before "
        "processing, so many after it, and what was chosen.",
    )
    max_trace_steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = Field(
        default=256, description="After so many tokens the trace ends; the text does not."
    )

    def as_options(self) -> TraceOptions | None:
        """How to trace, if that is asked for."""
        if not self.trace:
            return None
        return TraceOptions(num_candidates=self.trace_candidates, max_steps=self.max_trace_steps)

    @model_validator(mode="after")
    def _check(self) -> Self:
        idle = sorted(self.model_fields_set - {"trace"})
        if idle and not self.trace:
            raise PydanticCustomError(
                "contradiction",
                "Without trace: true, {fields} has no effect; add it, or leave this out",
                {"fields": " and ".join(idle)},
            )
        return self


class CandidateBody(ResponseModel):
    """A token that might have come next."""

    id: int
    text: str = Field(description="The token alone; half a character shows as U+FFFD.")
    logprob: float | None = Field(
        description="Its log-probability under the model; null for a probability of zero."
    )
    processed_logprob: float | None = Field(
        description="The same after penalties, grammar, guidance, temperature and truncation, as a "
        "share of what they left; null for a token that they dropped."
    )
    outcome: Outcome = Field(
        description="`continued`: chosen, the text goes on; `finished`: chosen, a sequence ended; "
        "`surpassed`: a sequence ended, and better ones were returned; `filtered`: processing "
        "dropped it; `not_chosen`: another was likelier, or drawn. Of beams: `outranked`: enough "
        "others came before it; `penalised`: so they did since an earlier group chose this token; "
        "`ended_too_low`: it ended, but not among the best of its step; `hopeless`: it could not "
        "surpass what was finished; `words_missing`: too little room for `force_words`."
    )
    score: float | None = Field(
        default=None,
        description="Beams: what the sequence is worth with it, summed up.",
        exclude_if=is_absent,
    )


class NodeBody(ResponseModel):
    """A text that the decode went through: its parent's text and one more token."""

    id: int
    parent: int | None = Field(description="Null for the prompt, where all begins.")
    index: int = Field(description="Which sequence it belongs to; of beams its rank in the step.")
    token: int | None = Field(description="The id of its last new token; null for the prompt.")
    text: str = Field(description="That token alone.")
    logprob: float | None = Field(description="That token's log-probability under the model.")
    processed_logprob: float | None = Field(description="The same after processing.")
    score: float | None = Field(
        default=None,
        description="Beams: the summed log-probabilities that beams are compared by.",
        exclude_if=is_absent,
    )
    final_score: float | None = Field(
        default=None,
        description="Finished beams: the score over length to the power length_penalty.",
        exclude_if=is_absent,
    )
    finish_reason: FinishReason | None = Field(
        default=None,
        description="Why the sequence ended here, if it did.",
        exclude_if=is_absent,
    )
    candidates: list[CandidateBody] = Field(
        description="What was considered to follow it, likeliest first; empty where it ended."
    )


class TraceStep(ResponseModel):
    """All texts of so many new tokens."""

    nodes: list[NodeBody]


class TraceBody(ResponseModel):
    """A decode as a tree."""

    steps: list[TraceStep] = Field(
        description="Step n holds the texts of n new tokens; the first is the prompt alone."
    )
    sequences: list[int] = Field(
        description="For each returned sequence the node it ended in; the way to it is its tokens."
    )
    truncated: bool = Field(
        description="Whether there was more: beyond max_trace_steps, or 10000 candidates in all."
    )
