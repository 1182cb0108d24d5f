"""DRY ("don't repeat yourself"): penalise tokens that would go on repeating a sequence.

By p-e-w, text-generation-webui pull request 5677, also in llama.cpp: a token that would prolong a
repetition of n tokens, n at least the allowed length, loses multiplier * base ** (n - allowed).
A repetition does not reach over a breaker, such as a newline, and breakers are never penalised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decoding.base import DecodingRow

MAX_MATCH = 512  # longer repetitions are penalised as ones of this length, far above any logit
MAX_PENALTY = 1e30  # keeps scores finite


@dataclass(frozen=True, slots=True)
class Dry:
    """A request's DRY penalty."""

    multiplier: float
    base: float
    allowed_length: int
    last_n: int  # -1: all
    breaker_ids: frozenset[int]

    def shifts(self, row: DecodingRow) -> Mapping[int, float]:
        """What is added to the logits of which tokens."""
        seen = row.token_ids
        if self.last_n >= 0:
            seen = seen[max(0, len(seen) - self.last_n) :]
        return {
            token_id: -min(MAX_PENALTY, self.multiplier * self._growth(length))
            for token_id, length in self._repetitions(seen).items()
            if token_id not in self.breaker_ids
        }

    def _growth(self, length: int) -> float:
        try:
            return float(self.base ** (length - self.allowed_length))
        except OverflowError:
            return MAX_PENALTY

    def _repetitions(self, seen: Sequence[int]) -> dict[int, int]:
        """By token, the length of the longest sequence at the end that it would go on repeating."""
        ids = np.fromiter(seen, np.int64, len(seen))
        longest = self._tokens_since_breaker(ids)
        if longest < self.allowed_length:
            return {}
        lengths = _match_lengths(ids, longest)
        found: dict[int, int] = {}
        for end in np.nonzero(lengths >= self.allowed_length)[0].tolist():
            following = int(ids[end + 1])
            found[following] = max(found.get(following, 0), int(lengths[end]))
        return found

    def _tokens_since_breaker(self, ids: NDArray[np.int64]) -> int:
        """How many tokens at the end hold no breaker."""
        breakers = np.nonzero(np.isin(ids, list(self.breaker_ids)))[0]
        num_tokens = len(ids) - 1 - int(breakers[-1]) if len(breakers) else len(ids)
        return min(num_tokens, MAX_MATCH)


def _match_lengths(ids: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """How many tokens up to each place but the last equal those at the end, at most so many.

    Compares one token of the end at a time with those places whose match has not ended yet.
    """
    lengths = np.zeros(max(0, len(ids) - 1), np.int64)
    open_places = np.arange(len(lengths))
    for back in range(longest):
        open_places = open_places[open_places >= back]
        open_places = open_places[ids[open_places - back] == ids[len(ids) - 1 - back]]
        if not len(open_places):
            break
        lengths[open_places] = back + 1
    return lengths
