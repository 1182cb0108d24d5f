"""What a request asks to be done to the scores of its rows, as text: parsed, bounded, frozen.

`app/bodies/adjustment_fields.py` makes it of a JSON body; `app/generation/adjustments.py` turns its
words into token ids. The numbers mean what `decoding.adjustments` says.
"""

from dataclasses import dataclass, fields

from decoding.adjustments import Watermark

DRY_SEQUENCE_BREAKERS = ("\n", ":", '"', "*")  # as llama.cpp and text-generation-webui


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAdjustments:
    """A request's adjustments; defaults do nothing."""

    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = DRY_SEQUENCE_BREAKERS
    no_repeat_ngram_size: int = 0
    bad_words: tuple[str, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_new_tokens: int = 0
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    watermark: Watermark | None = None

    @property
    def asked_for(self) -> dict[str, object]:
        """Those that are not at their defaults, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


NO_TEXT_ADJUSTMENTS = TextAdjustments()
