"""A sequence (one row of the batch) and the group of sequences that one request owns.

Both are written by the scheduler only; the runner and decoding read them. Token ids here are the
truth: whatever the cache holds can be computed again from them. No torch.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

from decoding.adjuster import Adjuster
from decoding.ask import Asks
from decoding.base import Decoder, ModelDepth
from engine.messages import GenerationRequest
from engine.observed import Observed
from engine.tracer import Tracer


@dataclass(slots=True, eq=False)
class Sequence:
    """One row: a prompt and the tokens chosen for it so far. Satisfies `DecodingRow`."""

    id: int  # unique in the engine; the cache's key
    prompt_ids: tuple[int, ...]
    index: int = 0  # which of the request's sequences; for beams its rank
    generated_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    num_computed: int = 0  # leading tokens whose keys and values are in the cache
    draft_ids: list[int] = field(default_factory=list)  # guesses of what follows, for one step
    similarity: float = 0.0  # of the newest token to those before it, if its strategy wants that
    twin: "Sequence | None" = None  # guided: the same text after the negative prompt

    @property
    def token_ids(self) -> list[int]:
        """Prompt and generated tokens, oldest first."""
        return [*self.prompt_ids, *self.generated_ids]

    @property
    def num_tokens(self) -> int:
        """Prompt and generated tokens, counted."""
        return len(self.prompt_ids) + len(self.generated_ids)

    @property
    def num_remaining(self) -> int:
        """Tokens to compute before the next one can be chosen; 1 while decoding."""
        return self.num_tokens - self.num_computed

    def tokens_between(self, start: int, end: int) -> list[int]:
        """Token ids at positions [start, end), drafts after the last."""
        if end > self.num_tokens:
            drafts = self.draft_ids[max(0, start - self.num_tokens) : end - self.num_tokens]
            return [*self.tokens_between(start, self.num_tokens), *drafts]
        num_prompt = len(self.prompt_ids)
        if start >= num_prompt:
            return self.generated_ids[start - num_prompt : end - num_prompt]
        return [*self.prompt_ids[start:end], *self.generated_ids[: max(0, end - num_prompt)]]


@dataclass(slots=True, weakref_slot=True, eq=False)
class Group:
    """All sequences of one request, planned together or not at all."""

    request: GenerationRequest
    decoder: Decoder
    ask: Asks  # what the decoder wants of the coming step; `engine.decide` keeps it up to date
    order: tuple[float, int]  # when it counts as submitted, and a number; the least goes first
    submitted_at: float
    rows: list[Sequence]
    started_at: float | None = None  # first scheduled
    first_token_at: float | None = None
    adjuster: Adjuster | None = None  # what is done to the scores of its rows
    depth: ModelDepth | None = None  # of the model, if rows may ask for single layers
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    observed: Observed = field(default_factory=Observed)  # the engine writes it
    tracer: Tracer | None = None  # the engine writes it; None: nobody looks

    @property
    def num_reserved_rows(self) -> int:
        """Rows kept free for this request while it is admitted."""
        return self.request.num_rows

    @property
    def held(self) -> list[Sequence]:
        """All rows that it has in the batch: those that decode, and their twins."""
        return [*self.rows, *(row.twin for row in self.rows if row.twin is not None)]

    @property
    def num_remaining(self) -> int:
        """Tokens to compute, over all rows, before the group can choose again."""
        return sum(row.num_remaining for row in self.held)

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """The layers that its coming step is to tell of."""
        asks = self.ask if isinstance(self.ask, tuple) else (self.ask,)
        contrasts = (ask.processing.contrast for ask in asks)
        return tuple(sorted({layer for each in contrasts if each for layer in each.layers}))

    @property
    def time_limit(self) -> float | None:
        """When it must have begun, or, once it has, ended; on the scheduler's clock."""
        urgency = self.request.urgency
        has_begun = self.started_at is not None
        limit = urgency.timeout_seconds if has_begun else urgency.seconds_to_start
        return None if limit is None else self.submitted_at + limit

    @property
    def is_decoding(self) -> bool:
        """Every row needs only its newest token computed."""
        return all(row.num_remaining == 1 for row in self.held)


def first_row(request: GenerationRequest, sequence_ids: Iterator[int]) -> list[Sequence]:
    """The single row every group starts with, and its twin if it is guided."""
    row = Sequence(id=next(sequence_ids), prompt_ids=request.prompt_ids)
    if request.guidance is not None:
        row.twin = Sequence(id=next(sequence_ids), prompt_ids=request.guidance.prompt_ids)
    return [row]


def fork(parent: Sequence, sequence_id: int) -> Sequence:
    """A copy of a row, without its twin, under a new id, before either gets its next token."""
    return Sequence(
        id=sequence_id,
        prompt_ids=parent.prompt_ids,
        index=parent.index,
        generated_ids=parent.generated_ids.copy(),
        logprobs=parent.logprobs.copy(),
        num_computed=parent.num_computed,
    )


def num_reserved(groups: Rows[Group]) -> int:
    """Rows the given groups may fill."""
    return sum(group.num_reserved_rows for group in groups)
