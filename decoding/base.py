"""The border types of decoding: what a strategy is given, what it answers, and who it is.

One step runs like this: the engine hands over logits for every row of every group; each group's
`Decoder` says with an `Ask` (`ask.py`) what to take of its rows; the shared maths (`chooser`)
takes it for the whole batch at once; the decoder turns the candidates into a `Decision`. A decoder
therefore never touches a tensor, the model or the cache. No torch in this file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

from decoding.ask import Asks
from decoding.considered import Verdict

StopCheck = Callable[[Sequence[int]], bool]
"""Given all generated token ids of a sequence, oldest first: does its text now hold a stop?"""

PhrasesOf = Callable[[str], Sequence[tuple[int, ...]]]
"""The token ids that spell a word or phrase, in each of the ways it may stand in a text."""


def _no_phrases(_: str) -> Sequence[tuple[int, ...]]:
    """Of a task without text."""
    return ()


class FinishReason(StrEnum):
    """Why a sequence ended."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDepth:
    """The layers after which a model can be asked what it would say already."""

    num_layers: int
    has_tied_embeddings: bool  # the matrix that embeds tokens gives the logits, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a decoder must know of its request besides the strategy's own parameters."""

    max_new_tokens: int
    seed: int
    eos_token_ids: frozenset[int] = frozenset()
    stop: StopCheck | None = None
    phrases_of: PhrasesOf = _no_phrases
    depth: ModelDepth | None = None  # None: the runtime tells nothing of single layers

    def may_end(self, newest_id: int, num_generated: int) -> bool:
        """Whether `finish_reason` can be other than None: told without a copy of all tokens."""
        return (
            self.stop is not None
            or num_generated >= self.max_new_tokens
            or newest_id in self.eos_token_ids
        )

    def finish_reason(self, generated_ids: Sequence[int]) -> FinishReason | None:
        """Why a sequence with these generated tokens ends here, or None if it goes on."""
        if generated_ids[-1] in self.eos_token_ids:
            return FinishReason.EOS
        if self.stop is not None and self.stop(generated_ids):
            return FinishReason.STOP
        if len(generated_ids) >= self.max_new_tokens:
            return FinishReason.LENGTH
        return None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that may continue a row."""

    token_id: int
    logprob: float  # under the model itself, before any processing
    score: float  # a log-probability after processing; for `MostLikely` just the score
    noise: float = 0.0  # `DrawDistinct`: what was added to the score to draw it


Alternatives = tuple[tuple[int, float], ...]
"""The most likely tokens at a place and their log-probabilities, best first."""


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A given token, its log-probability under the model, and what would have been likely."""

    token_id: int
    logprob: float
    alternatives: Alternatives = ()


class DecodingRow(Protocol):
    """The part of a running sequence that decoding may look at."""

    @property
    def index(self) -> int:
        """Which of the request's sequences this is; for beams, its rank."""

    @property
    def token_ids(self) -> Sequence[int]:
        """Prompt and generated tokens so far, oldest first."""

    @property
    def generated_ids(self) -> Sequence[int]:
        """Only the generated tokens."""

    @property
    def logprobs(self) -> Sequence[float]:
        """The log-probability of each generated token under the model."""

    @property
    def similarity(self) -> float:
        """How like the newest token is to those before it: the largest cosine of hidden states.

        Known to strategies that say `needs_hidden_states`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A row of the next step: a parent row of this step and the token that follows it."""

    parent: int  # position of the parent among the group's rows in this step
    token_id: int
    logprob: float
    index: int  # the sequence index the continued row carries
    before: tuple[tuple[int, float], ...] = ()  # tokens in between, with log-probabilities: drafts
    score: float | None = None  # of the whole sequence, to be shown; None: summed up from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """Tokens of one returned sequence that are certain from now on, for streaming."""

    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A finished sequence: its generated tokens only."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    score: float | None = None  # beams: the length-penalised sum of log-probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a step made of a group. Done when no row goes on; then `results` holds the answer.

    The answer is one sequence at least and `Strategy.num_results` at most: a search may find that
    no more are possible.
    """

    live: tuple[Continuation, ...] = ()
    emissions: tuple[Emission, ...] = ()
    results: tuple[Hypothesis, ...] = ()
    verdicts: tuple[Verdict, ...] | None = None  # why candidates end here; None: does not tell


class Decoder(Protocol):
    """The decoding of one request. Holds its state between steps; only `advance` changes it."""

    @property
    def ask(self) -> Asks:
        """What to take of each row in the coming step."""

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Continue the group. `found[i]` holds the candidates of `rows[i]`, best first.

        Raises `InvalidParameter` where what a parameter asks for turns out not to be possible.

        Where a strategy says `has_independent_rows`, `rows` may be some of the live ones only; the
        answer then comes with the last of all rows to end.
        """


@runtime_checkable
class CanBeCutShort(Protocol):
    """A decoder that knows the answer so far of a request whose time is up.

    Of one that does not, the answer is what its live rows hold.
    """

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """End here, with nothing live: `rows` are the live ones, those of the next step.

        What has not ended by itself ends with `FinishReason.TIMEOUT`, empty if nothing was chosen
        yet; emissions hold what was not sent. Changes nothing in the decoder.
        """


class Strategy(Protocol):
    """A decoding strategy: a frozen dataclass whose fields are the request's parameters.

    With a class attribute `has_independent_rows` that is true it promises that its rows do not look
    at each other and that its ask stays the same: then drafts may speed it up. With a class
    attribute `needs_hidden_states` that is true its rows' `similarity` is found out.

    Its docstring, its fields' bounds and descriptions become the request schema. Contradictions
    between fields raise `InvalidParameter` when it is built.
    """

    name: ClassVar[str]  # how requests call it

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request gives the same tokens without a seed."""

    @property
    def num_rows(self) -> int:
        """The most rows this request ever has in the batch."""

    @property
    def num_results(self) -> int:
        """How many sequences it returns at most."""

    def start(self, task: Task) -> Decoder:
        """Begin decoding one request."""


def has_independent_rows(strategy: Strategy) -> bool:
    """Whether drafts may speed a strategy up; no, unless it says so."""
    return bool(getattr(strategy, "has_independent_rows", False))


def needs_hidden_states(strategy: Strategy) -> bool:
    """Whether a strategy looks at its rows' `similarity`; no, unless it says so."""
    return bool(getattr(strategy, "needs_hidden_states", False))


@runtime_checkable
class ChecksTask(Protocol):
    """A strategy that may be impossible for a request, whatever its own parameters."""

    def check_task(self, task: Task) -> None:
        """Say no before the request is queued.

        Raises:
            InvalidParameter: naming the field and what to do.
        """
