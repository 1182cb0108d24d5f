"""What any request may ask to be done to the scores of its rows, whatever its strategy.

Carried by `engine.messages.GenerationRequest`, compiled by `decoding.processors.adjust` and applied
before the strategy looks at a row: beams, draws and plugins' strategies get it alike. Names follow
`transformers.GenerationConfig`, vLLM and llama.cpp. No torch.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

MAX_NGRAM = 1024

RepetitionPenalty = Annotated[
    float,
    Ge(0.01),
    Le(100.0),
    Doc("Above 1 makes tokens of the prompt and the text so far less likely; 1 changes nothing."),
]
PresencePenalty = Annotated[
    float,
    Ge(-2.0),
    Le(2.0),
    Doc("Taken from the logit of every token that was generated already; the prompt is not seen."),
]
FrequencyPenalty = Annotated[
    float,
    Ge(-2.0),
    Le(2.0),
    Doc("Taken from a token's logit once for every time it was generated already."),
]
DryMultiplier = Annotated[
    float,
    Ge(0.0),
    Le(100.0),
    Doc("Strength of the DRY penalty on tokens that would repeat a sequence; 0: none."),
]
DryBase = Annotated[
    float, Ge(1.0), Le(10.0), Doc("The DRY penalty grows by this factor with each repeated token.")
]
DryAllowedLength = Annotated[
    int, Ge(1), Le(MAX_NGRAM), Doc("Repeated sequences up to this many tokens are not penalised.")
]
DryPenaltyLastN = Annotated[
    int, Ge(-1), Le(10_000_000), Doc("How many tokens DRY looks back; 0: none, -1: all of them.")
]
NoRepeatNgramSize = Annotated[
    int, Ge(0), Le(MAX_NGRAM), Doc("No sequence of so many tokens occurs twice; 0: any may.")
]
MinNewTokens = Annotated[
    int, Ge(0), Le(10_000_000), Doc("No end token is chosen before so many tokens are generated.")
]

GreenlistRatio = Annotated[
    float, Gt(0.0), Lt(1.0), Doc("The share of the vocabulary that is green at a place.")
]
WatermarkBias = Annotated[
    float, Ge(-100.0), Le(100.0), Doc("What the logits of green tokens gain.")
]
HashingKey = Annotated[
    int, Ge(1), Le(2**53), Doc("The secret that decides the lists; detection needs the same.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """The numbers that make a watermark of `decoding.watermark`; two of them find it again."""

    greenlist_ratio: float = 0.25
    bias: float = 2.0
    hashing_key: int = 15_485_863


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustments:
    """Applied in the order of the fields, which is that of `transformers`; defaults do nothing."""

    logit_bias: tuple[tuple[int, float], ...] = ()  # token id and what is added to its logit
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_breaker_ids: frozenset[int] = frozenset()  # no repeated sequence reaches over these
    watermark: Watermark | None = None
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    min_new_tokens: int = 0
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()  # as the first generated token only
    forced_bos_token_id: int | None = None  # the first generated token
    forced_eos_token_id: int | None = None  # the last one that max_new_tokens leaves room for

    def __post_init__(self) -> None:
        if not self.repetition_penalty > 0:
            raise ValueError("repetition_penalty must be above 0")
        if any(not word for word in self.bad_words):
            raise ValueError("bad_words holds a word without tokens")


NO_ADJUSTMENTS = Adjustments()
