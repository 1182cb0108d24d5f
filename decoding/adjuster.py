"""A request's adjustments, compiled: rules that say which scores move, fall out or are forced.

The scheduler compiles `decoding.adjustments.Adjustments` when a request arrives;
`decoding.processors.adjust` applies the rules to the rows of a step. No torch.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from decoding.adjustments import Adjustments, Watermark
from decoding.base import DecodingRow, Task
from decoding.rules.bans import BadWords, SuppressBefore, SuppressTokens
from decoding.rules.dry import Dry
from decoding.rules.forced_token import ForcedToken
from decoding.rules.logit_bias import LogitBias
from decoding.rules.no_repeat_ngram import NoRepeatNgram
from decoding.rules.occurrence_penalties import OccurrencePenalties


class Shift(Protocol):
    """Something that moves the logits of some tokens."""

    def shifts(self, row: DecodingRow) -> Mapping[int, float]:
        """What is added to the logits of which tokens."""


class Ban(Protocol):
    """Something that rules some tokens out."""

    def banned(self, row: DecodingRow) -> Collection[int]:
        """Tokens that may not come next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjuster:
    """What is done to the scores of one request's rows, in this order. Frozen: holds no state."""

    bias: LogitBias | None = None
    repetition_penalty: float = 1.0
    penalties: tuple[Shift, ...] = ()
    watermark: Watermark | None = None
    bans: tuple[Ban, ...] = ()
    forced: tuple[ForcedToken, ...] = ()


def compile_adjustments(adjustments: Adjustments, task: Task) -> Adjuster | None:
    """The adjuster of a request, or None if it asks for nothing."""
    adjuster = Adjuster(
        bias=LogitBias(adjustments.logit_bias) if adjustments.logit_bias else None,
        repetition_penalty=adjustments.repetition_penalty,
        penalties=tuple(_penalties(adjustments)),
        watermark=adjustments.watermark,
        bans=tuple(_bans(adjustments, task)),
        forced=tuple(_forced(adjustments, task)),
    )
    return None if adjuster == Adjuster() else adjuster


def _penalties(adjustments: Adjustments) -> list[Shift]:
    penalties: list[Shift] = []
    if adjustments.presence_penalty or adjustments.frequency_penalty:
        presence, frequency = adjustments.presence_penalty, adjustments.frequency_penalty
        penalties.append(OccurrencePenalties(presence, frequency))
    if adjustments.dry_multiplier and adjustments.dry_penalty_last_n:
        penalties.append(
            Dry(
                multiplier=adjustments.dry_multiplier,
                base=adjustments.dry_base,
                allowed_length=adjustments.dry_allowed_length,
                last_n=adjustments.dry_penalty_last_n,
                breaker_ids=adjustments.dry_breaker_ids,
            )
        )
    return penalties


def _bans(adjustments: Adjustments, task: Task) -> list[Ban]:
    bans: list[Ban] = []
    if adjustments.no_repeat_ngram_size:
        bans.append(NoRepeatNgram(adjustments.no_repeat_ngram_size))
    if adjustments.bad_words:
        bans.append(BadWords(adjustments.bad_words))
    if adjustments.min_new_tokens and task.eos_token_ids:
        bans.append(SuppressBefore(tuple(sorted(task.eos_token_ids)), adjustments.min_new_tokens))
    if adjustments.suppress_tokens:
        bans.append(SuppressTokens(adjustments.suppress_tokens))
    if adjustments.begin_suppress_tokens:
        bans.append(SuppressBefore(adjustments.begin_suppress_tokens, 1))
    return bans


def _forced(adjustments: Adjustments, task: Task) -> list[ForcedToken]:
    forced = []
    if adjustments.forced_bos_token_id is not None:
        forced.append(ForcedToken(adjustments.forced_bos_token_id, 0))
    if adjustments.forced_eos_token_id is not None:
        forced.append(ForcedToken(adjustments.forced_eos_token_id, task.max_new_tokens - 1))
    return forced
