"""Everything that crosses the border between the engine and the app. All frozen, no torch.

The app builds `GenerationRequest`s, valid by construction, and receives events: `TokenEvent`s
while tokens become certain, then exactly one `RequestFinished` or `RequestFailed` a request,
unless it was cancelled: a cancelled request gets no further event.
"""

from dataclasses import dataclass, field, replace

from decoding.adjustments import NO_ADJUSTMENTS, Adjustments
from decoding.base import (
    Alternatives,
    Hypothesis,
    ModelDepth,
    PhrasesOf,
    StopCheck,
    Strategy,
    Task,
    TokenScore,
    needs_hidden_states,
)
from decoding.constraint import TokenConstraint
from engine.errors import EngineError
from engine.prompt_lookup import PromptLookup
from engine.trace import Trace, TraceOptions
from engine.urgency import NO_HURRY, Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativePrompt:
    """What classifier-free guidance leads away from, and how far. Not empty."""

    prompt_ids: tuple[int, ...]
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt to continue. `prompt_ids` is not empty and its ids are in the vocabulary."""

    request_id: str
    prompt_ids: tuple[int, ...]
    strategy: Strategy
    max_new_tokens: int
    seed: int
    urgency: Urgency = NO_HURRY
    eos_token_ids: frozenset[int] = frozenset()
    stop: StopCheck | None = None
    adjustments: Adjustments = NO_ADJUSTMENTS
    phrases_of: PhrasesOf | None = None  # spells words, for strategies that take some
    guidance: NegativePrompt | None = None
    lookup: PromptLookup | None = None  # drafts for it are looked up in its own text
    num_speculative_tokens: int = 0  # guessed at once by the draft model, where lookup has none
    num_alternatives: int = 0  # most likely tokens to report at each generated place
    scored_from: int | None = None  # report log-probabilities of the prompt's tokens from here on
    num_prompt_alternatives: int = 0  # most likely tokens to report at each of these
    trace: TraceOptions | None = None  # make its decode visible
    constraint: TokenConstraint | None = None  # this request's own, used by the engine alone
    cache_salt: str = ""  # prompts share cached prefixes only under the same salt

    @property
    def num_rows(self) -> int:
        """The most rows it ever has in the batch; guided ones come in pairs."""
        return self.strategy.num_rows * (1 if self.guidance is None else 2)

    @property
    def takes_drafts(self) -> bool:
        """Whether its rows may carry guesses."""
        return self.lookup is not None or self.num_speculative_tokens > 0

    @property
    def needs_hidden_states(self) -> bool:
        """Whether all its rows' tokens are to be computed, with their hidden states."""
        return needs_hidden_states(self.strategy)

    @property
    def max_num_tokens(self) -> int:
        """The longest that each of its rows may get."""
        negative = () if self.guidance is None else self.guidance.prompt_ids
        return max(len(self.prompt_ids), len(negative)) + self.max_new_tokens

    @property
    def task(self) -> Task:
        """What a decoder must know of it."""
        task = Task(
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            eos_token_ids=self.eos_token_ids,
            stop=self.stop,
        )
        return task if self.phrases_of is None else replace(task, phrases_of=self.phrases_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a request's time went. Seconds on the engine's monotonic clock."""

    queue_seconds: float  # submitted until first scheduled
    prefill_seconds: float  # first scheduled until the first step that chose a token
    decode_seconds: float  # from there until finished
    num_cached_tokens: int  # prompt tokens whose keys and values were already cached
    num_preemptions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """Tokens of sequence `index` that are certain. Beams: the prefix all candidates share."""

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    alternatives: tuple[Alternatives, ...] = ()  # at each place, if asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished:
    """The answer: `sequences` in order of index, beams best first.

    Complete, unless sequences end with `FinishReason.TIMEOUT`: then they are what there was.
    """

    request_id: str
    sequences: tuple[Hypothesis, ...]
    timings: Timings
    alternatives: tuple[tuple[Alternatives, ...], ...] = ()  # of each sequence's places, if asked
    prompt_scores: tuple[TokenScore, ...] = ()  # of the prompt's tokens, if asked
    trace: Trace | None = None  # of the whole decode, if asked


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed:
    """The request ended without an answer; others are not affected unless they get one too."""

    request_id: str
    error: EngineError


Event = TokenEvent | RequestFinished | RequestFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What a request must fit into; the app refuses what does not before it submits."""

    context_length: int  # prompt plus new tokens, in tokens
    vocab_size: int
    max_rows: int  # rows one step can hold, so the most beams or samples of a request
    max_cached_tokens: int  # tokens the KV cache can hold in all
    block_size: int  # tokens of a prompt that the KV cache keeps and finds again together
    is_deterministic: bool  # whether a request gets the same bits whatever runs beside it
    has_hidden_states: bool  # whether strategies may look at hidden states
    has_all_logits: bool  # whether logits can be had after several tokens of a row in one step
    has_draft_model: bool  # whether a second model guesses for requests that want it
    depth: ModelDepth | None = None  # of the model, if strategies may ask for single layers


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """A snapshot of gauges and running totals, taken when a step is planned and when it ends."""

    num_running_sequences: int = 0
    num_running_requests: int = 0
    num_waiting_requests: int = 0
    num_waiting_sequences: int = 0  # rows that the waiting requests will need
    num_cached_tokens: int = 0  # KV slots in use by live sequences, in tokens
    max_cached_tokens: int = 0
    num_steps: int = 0
    num_step_rows: int = 0  # sequences in those steps, each counted in each
    num_step_tokens: int = 0  # computed by the model in them
    num_prompt_tokens: int = 0
    num_prompt_tokens_from_cache: int = 0
    num_generated_tokens: int = 0  # of returned sequences, as they become certain
    num_draft_tokens: int = 0  # guessed and computed
    num_accepted_draft_tokens: int = 0  # of these, what was chosen indeed
    num_preemptions: int = 0
    num_cancellations: int = 0
    num_failures: int = 0
    num_queue_timeouts: int = 0  # requests that were not begun in time
    num_timeouts: int = 0  # requests that were cut short
    forward_seconds: float = 0.0  # time spent in the model, all steps
    draft_seconds: float = 0.0  # time spent in the draft model
    device_memory_bytes: int = field(default=0)  # allocated on the accelerator; 0 on a CPU
