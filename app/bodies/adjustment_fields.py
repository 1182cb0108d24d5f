"""The fields of a body that change scores before its strategy sees them, the same for all.

`GenerateBody` inherits them. Bounds and descriptions of numbers are those of
`decoding.adjustments`; what depends on the vocabulary is checked later, in
`app/generation/adjustments.py`.
"""

from dataclasses import fields
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import Doc

from app.bodies.strict_model import StrictModel
from app.text.adjustments import DRY_SEQUENCE_BREAKERS, TextAdjustments
from decoding import adjustments

MAX_BIASES = 1024
MAX_WORDS = 256
MAX_WORD_CHARACTERS = 256
MAX_SUPPRESSED = 4096
MAX_BIAS = 100.0  # as OpenAI's


def _token_ids(value: object) -> object:
    """JSON has no keys but strings: those of `logit_bias` are token ids in digits."""
    if not isinstance(value, dict):
        return value
    wrong = next((key for key in value if not _is_token_id(key)), None)
    if wrong is not None:
        raise PydanticCustomError(
            "invalid_token_id",
            "The keys are token ids in digits; {key} is none",
            {"key": repr(wrong)[:80]},
        )
    return {int(key): bias for key, bias in value.items()}


def _is_token_id(key: object) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 10


def _described(hint: Any) -> str:  # noqa: ANN401  an annotated type
    (doc,) = [entry for entry in get_args(hint)[1:] if isinstance(entry, Doc)]
    return doc.documentation


def _number(hint: Any, default: float) -> Any:  # noqa: ANN401  as pydantic.Field
    return Field(default=default, description=_described(hint))


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Word = Annotated[str, Field(min_length=1, max_length=MAX_WORD_CHARACTERS)]
Bias = Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]
Suppressed = Annotated[list[TokenId], Field(max_length=MAX_SUPPRESSED)]


class WatermarkBody(StrictModel):
    """A watermark; `POST /watermark/detect` finds it with the same numbers."""

    greenlist_ratio: adjustments.GreenlistRatio = _number(adjustments.GreenlistRatio, 0.25)
    bias: adjustments.WatermarkBias = _number(adjustments.WatermarkBias, 2.0)
    hashing_key: adjustments.HashingKey = _number(adjustments.HashingKey, 15_485_863)

    def as_watermark(self) -> adjustments.Watermark:
        """The same, frozen."""
        return adjustments.Watermark(**self.model_dump())


class AdjustmentFields(StrictModel):
    """Penalties, biases and bans. All of them apply to every strategy, beams included."""

    repetition_penalty: adjustments.RepetitionPenalty = _number(adjustments.RepetitionPenalty, 1.0)
    presence_penalty: adjustments.PresencePenalty = _number(adjustments.PresencePenalty, 0.0)
    frequency_penalty: adjustments.FrequencyPenalty = _number(adjustments.FrequencyPenalty, 0.0)
    dry_multiplier: adjustments.DryMultiplier = _number(adjustments.DryMultiplier, 0.0)
    dry_base: adjustments.DryBase = _number(adjustments.DryBase, 1.75)
    dry_allowed_length: adjustments.DryAllowedLength = _number(adjustments.DryAllowedLength, 2)
    dry_penalty_last_n: adjustments.DryPenaltyLastN = _number(adjustments.DryPenaltyLastN, -1)
    dry_sequence_breakers: Annotated[list[Word], Field(max_length=MAX_WORDS)] = Field(
        default=list(DRY_SEQUENCE_BREAKERS),
        description="Strings over which no repeated sequence of DRY reaches: the tokens that hold "
        "one of them.",
    )
    no_repeat_ngram_size: adjustments.NoRepeatNgramSize = _number(adjustments.NoRepeatNgramSize, 0)
    bad_words: Annotated[list[Word], Field(max_length=MAX_WORDS)] = Field(
        default=[],
        description="Strings whose tokens may not come one after the other, each as it is written "
        "and after a space.",
    )
    logit_bias: Annotated[
        dict[int, Bias], BeforeValidator(_token_ids), Field(max_length=MAX_BIASES)
    ] = Field(
        default={},
        description="What is added to the logits of tokens: token id to a number in [-100, 100].",
    )
    min_new_tokens: adjustments.MinNewTokens = _number(adjustments.MinNewTokens, 0)
    suppress_tokens: Suppressed = Field(
        default=[], description="Ids of tokens that are never chosen."
    )
    begin_suppress_tokens: Suppressed = Field(
        default=[], description="Ids of tokens that are not chosen first."
    )
    forced_bos_token_id: TokenId | None = Field(
        default=None, description="The id of the token that is generated first."
    )
    forced_eos_token_id: TokenId | None = Field(
        default=None,
        description="The id of the token that comes last if the text reaches max_new_tokens.",
    )

    watermark: WatermarkBody | None = Field(
        default=None,
        description="Marks the text so that whoever knows the key can tell that it was generated; "
        "{} takes the defaults.",
    )

    def as_adjustments(self) -> TextAdjustments:
        """The same, frozen."""
        given = _ADJUSTMENTS & self.model_fields_set
        return TextAdjustments(**{name: _frozen(getattr(self, name)) for name in given})


_ADJUSTMENTS = frozenset(field.name for field in fields(TextAdjustments))


def _frozen(value: Any) -> Any:  # noqa: ANN401  a field's value
    if isinstance(value, WatermarkBody):
        return value.as_watermark()
    if isinstance(value, dict):
        return tuple(sorted(value.items()))
    return tuple(dict.fromkeys(value)) if isinstance(value, list) else value
