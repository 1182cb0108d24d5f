"""A decode that can be looked at: every text it went through, and what might have followed each.

Made by `engine.tracer`, handed to the app with the finished answer. A trace is a tree of nodes. A
node is a text so far; its parent is the text before the last token. All frozen, no torch.
"""

from dataclasses import dataclass

from decoding.base import FinishReason
from decoding.considered import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """How much to note: what else is considered or goes on is left out, and that is said."""

    num_candidates: int  # most likely tokens at each place, before processing and after
    max_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCandidate:
    """A token that might have followed a node's text."""

    token_id: int
    logprob: float  # under the model
    processed_logprob: float  # after all that the request asked for; -inf: it was dropped
    outcome: Outcome
    score: float | None  # beams: what the sequence would be worth with it


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceNode:
    """A text that the decode went through. The root is the prompt alone: no parent, no token."""

    id: int
    parent: int | None
    index: int  # which of the request's sequences; for beams, its rank
    token_id: int | None
    logprob: float | None
    processed_logprob: float | None  # None too for a token that the strategy was not offered
    score: float | None  # beams: what it is worth
    final_score: float | None  # of a finished beam: what it is ranked by
    finish_reason: FinishReason | None  # None: it went on, or was given up
    candidates: tuple[TracedCandidate, ...]  # for the token after it; none where it ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A decode. Step n holds the nodes of n new tokens, with what was considered to follow them."""

    steps: tuple[tuple[TraceNode, ...], ...]
    ends: tuple[int, ...]  # of each returned sequence, the last node that was noted
    is_truncated: bool  # whether there was more than is noted
