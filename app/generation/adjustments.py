"""Turns a request's adjustments into what decoding takes: words into token ids, all ids checked.

Called by `preparation.py` on a text thread. Says no, by field, to what the model's vocabulary or
the request's own length cannot satisfy.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from app.errors import InvalidRequest
from app.text.adjustments import NO_TEXT_ADJUSTMENTS, TextAdjustments
from app.text.codec import TextCodec
from decoding.adjustments import NO_ADJUSTMENTS, Adjustments

MAX_KEPT_BREAKERS = 64  # sets of breakers whose tokens are remembered


class AdjustmentTranslator:
    """Knows the vocabulary. Holds no state but what it remembers of it."""

    def __init__(self, codec: TextCodec, vocab_size: int) -> None:
        self._codec = codec
        self._vocab_size = vocab_size
        self._breaker_ids = lru_cache(MAX_KEPT_BREAKERS)(self._find_breaker_ids)

    def translate(self, asked: TextAdjustments, max_new_tokens: int) -> Adjustments:
        """The adjustments in token ids.

        Raises:
            InvalidRequest: a token that the model does not have, or too many tokens.
        """
        if asked == NO_TEXT_ADJUSTMENTS:
            return NO_ADJUSTMENTS
        for field, token_ids in _named_token_ids(asked).items():
            self._check(field, token_ids)
        if asked.min_new_tokens > max_new_tokens:
            raise InvalidRequest(
                f"min_new_tokens {asked.min_new_tokens} exceeds the {max_new_tokens} new tokens "
                "that there may be; lower it, or raise max_new_tokens.",
                param="min_new_tokens",
            )
        has_dry = asked.dry_multiplier > 0
        breakers = self._breaker_ids(asked.dry_sequence_breakers) if has_dry else frozenset()
        return Adjustments(
            logit_bias=asked.logit_bias,
            repetition_penalty=asked.repetition_penalty,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
            dry_multiplier=asked.dry_multiplier,
            dry_base=asked.dry_base,
            dry_allowed_length=asked.dry_allowed_length,
            dry_penalty_last_n=asked.dry_penalty_last_n,
            dry_breaker_ids=breakers,
            watermark=asked.watermark,
            no_repeat_ngram_size=asked.no_repeat_ngram_size,
            bad_words=self._bad_words(asked.bad_words),
            min_new_tokens=asked.min_new_tokens,
            suppress_tokens=asked.suppress_tokens,
            begin_suppress_tokens=asked.begin_suppress_tokens,
            forced_bos_token_id=asked.forced_bos_token_id,
            forced_eos_token_id=asked.forced_eos_token_id,
        )

    def _check(self, field: str, token_ids: Iterable[int]) -> None:
        unknown = next((each for each in token_ids if each >= self._vocab_size), None)
        if unknown is not None:
            raise InvalidRequest(
                f"There is no token {unknown}: this model's ids end at {self._vocab_size - 1}.",
                param=field,
                code="unknown_token",
            )

    def phrases_of(self, word: str) -> tuple[tuple[int, ...], ...]:
        """Token ids of a word or phrase in a text, of the model's own tokens that show only."""
        return tuple(
            ids
            for ids in self._codec.phrases_of(word)
            if not any(each >= self._vocab_size or self._codec.is_silent(each) for each in ids)
        )

    def _bad_words(self, words: Iterable[str]) -> tuple[tuple[int, ...], ...]:
        return tuple(dict.fromkeys(ids for word in words for ids in self.phrases_of(word)))

    def _find_breaker_ids(self, breakers: tuple[str, ...]) -> frozenset[int]:
        texts = self._codec.token_texts(self._vocab_size)
        found = frozenset(
            token_id
            for token_id, text in enumerate(texts)
            if any(breaker in text for breaker in breakers)
        )
        missing = next((b for b in breakers if not any(b in texts[each] for each in found)), None)
        if missing is not None:
            raise InvalidRequest(
                f"No token of this model holds {missing!r}; name shorter strings.",
                param="dry_sequence_breakers",
            )
        return found


def _named_token_ids(asked: TextAdjustments) -> Mapping[str, Iterable[int]]:
    """All token ids that a request names, by field."""
    forced = {
        "forced_bos_token_id": asked.forced_bos_token_id,
        "forced_eos_token_id": asked.forced_eos_token_id,
    }
    return {
        "logit_bias": [token_id for token_id, _ in asked.logit_bias],
        "suppress_tokens": asked.suppress_tokens,
        "begin_suppress_tokens": asked.begin_suppress_tokens,
    } | {field: [] if token_id is None else [token_id] for field, token_id in forced.items()}
