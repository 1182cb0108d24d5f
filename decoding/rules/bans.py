"""Tokens that may not come next: bad words, suppressed tokens, an end that is too early.

Each as in `transformers`: `NoBadWordsLogitsProcessor`, `SuppressTokensLogitsProcessor`,
`SuppressTokensAtBeginLogitsProcessor` and `MinNewTokensLengthLogitsProcessor`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from decoding.base import DecodingRow


@dataclass(frozen=True, slots=True)
class BadWords:
    """Sequences of tokens that may not occur; prompt tokens count as their beginning."""

    words: tuple[tuple[int, ...], ...]

    def banned(self, row: DecodingRow) -> Collection[int]:
        """The last tokens of the words whose other tokens the row ends with."""
        ids = row.token_ids
        return {word[-1] for word in self.words if _ends_with(ids, word[:-1])}


@dataclass(frozen=True, slots=True)
class SuppressTokens:
    """Tokens that may never be chosen."""

    token_ids: tuple[int, ...]

    def banned(self, row: DecodingRow) -> Collection[int]:  # noqa: ARG002  the same for all
        """All of them."""
        return self.token_ids


@dataclass(frozen=True, slots=True)
class SuppressBefore:
    """Tokens that may not be chosen as one of the first `num_tokens`."""

    token_ids: tuple[int, ...]
    num_tokens: int

    def banned(self, row: DecodingRow) -> Collection[int]:
        """All of them until enough is generated."""
        return self.token_ids if len(row.generated_ids) < self.num_tokens else ()


def _ends_with(ids: Sequence[int], end: tuple[int, ...]) -> bool:
    return not end or tuple(ids[-len(end) :]) == end
