"""What might follow a row, and what became of it: the words in which a decode is shown.

Nothing here is needed to decode. `decoding.tracing` computes `Outlook`s for rows that somebody
wants to see; strategies whose reasons cannot be seen from outside tell them as `Verdict`s with
their decision; the engine joins both into a trace. No torch.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a candidate."""

    CONTINUED = "continued"  # it was chosen, and the sequence goes on
    FINISHED = "finished"  # it was chosen, and ended a sequence
    SURPASSED = "surpassed"  # it ended a sequence, and better ones were returned
    FILTERED = "filtered"  # processing left it no probability
    NOT_CHOSEN = "not_chosen"  # another was more likely, or drawn
    OUTRANKED = "outranked"  # beams: enough others came before it, by score or in the draw
    PENALISED = "penalised"  # beams: so they did since an earlier group chose this token
    ENDED_TOO_LOW = "ended_too_low"  # beams: it ended, but was not among the best of its step
    HOPELESS = "hopeless"  # beams: it cannot surpass what is finished, so the search ended
    WORDS_MISSING = "words_missing"  # beams: too little room for the words that it must hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a strategy made of a candidate that does not go on."""

    parent: int  # position of its row among the group's rows in this step
    token_id: int
    outcome: Outcome
    score: float | None = None  # of the whole sequence, as the strategy sums it up
    final_score: float | None = None  # of a finished one: what it is ranked by


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """A token that might follow a row, as the model and as its request saw it."""

    token_id: int
    logprob: float  # under the model
    score: float  # after processing, as strategies add it up; -inf: it was dropped
    processed_logprob: float  # the same as a share of all that is left
    is_likely: bool  # among the most likely before processing, or after; False: only found


@dataclass(frozen=True, slots=True)
class Outlook:
    """What might follow one row, likeliest first, what was dropped last."""

    candidates: tuple[Considered, ...]
    has_scores: bool  # whether the strategy asked for scores to rank: beams
