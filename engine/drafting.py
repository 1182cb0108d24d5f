"""Whose rows carry drafts in a step, how many, and where the guesses come from.

The scheduler asks once all else is planned. Where a request allows both, a row's own text is looked
at first, since that costs nothing (`prompt_lookup`); where it says nothing, a second model guesses,
for all rows together (`draft_model`, known here as a `Guesser`). What becomes of drafts is not
decided here but in `speculate`. Arithmetic on integers; no torch.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.kv_cache import KVCache
from engine.sequence import Group
from engine.sequence import Sequence as Row

Drafts = tuple[Row, list[int]]
"""A row and the tokens guessed to follow its newest one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """A decoding row that wants so many tokens to be guessed, at most."""

    group: Group
    row: Row
    num_tokens: int


class Guesser(Protocol):
    """A model that guesses what follows; it keeps what it knows of a row until it is told."""

    def guess(self, wishes: Sequence[Wish]) -> list[list[int]]:
        """Tokens for each wish, in order; none where it cannot say, or not yet."""

    def release(self, sequence_id: int) -> None:
        """Forget a row that has ended or lost its room; unknown ids are fine."""


class Drafting:
    """Guesses for the rows of a step. The room they take in the cache is reserved here."""

    def __init__(self, cache: KVCache, guesser: Guesser | None) -> None:
        self._cache = cache
        self._guesser = guesser

    def draft(self, groups: Iterable[Group], budget: int) -> list[Drafts]:
        """Guess for rows of stepping groups, `budget` tokens in all."""
        found: list[Drafts] = []
        wishes: list[Wish] = []
        for group, row, room in _draftable(groups):
            most = min(room, budget)
            drafts = self._look_up(group, row, most)
            if drafts:
                found.append((row, drafts))
                budget -= len(drafts)
                continue
            num_tokens = min(group.request.num_speculative_tokens, most)
            if num_tokens > 0 and self._reserve(row, num_tokens):
                wishes.append(Wish(group, row, num_tokens))
                budget -= num_tokens
        return found + self._guess(wishes)

    def release(self, sequence_id: int) -> None:
        """A row has ended or lost its room."""
        if self._guesser is not None:
            self._guesser.release(sequence_id)

    def _look_up(self, group: Group, row: Row, most: int) -> list[int]:
        lookup = group.request.lookup
        drafts = [] if lookup is None else lookup.propose(row.token_ids, most)
        return drafts if drafts and self._reserve(row, len(drafts)) else []

    def _guess(self, wishes: Sequence[Wish]) -> list[Drafts]:
        if not wishes:
            return []
        assert self._guesser is not None, "requests that want one are refused without it"
        try:
            guesses = self._guesser.guess(wishes)
        except Exception:
            logger.exception("the draft model failed; this step goes without its guesses")
            for wish in wishes:  # what it holds of them may be half written
                self._guesser.release(wish.row.id)
            return []
        return [(wish.row, drafts) for wish, drafts in zip(wishes, guesses, strict=True) if drafts]

    def _reserve(self, row: Row, num_drafts: int) -> bool:
        return self._cache.reserve(row.id, row.num_computed, row.num_tokens + num_drafts)


def _draftable(groups: Iterable[Group]) -> Iterator[tuple[Group, Row, int]]:
    """Decoding rows of requests that let themselves be guessed, and the most that may be of use."""
    for group in groups:
        request = group.request
        if request.takes_drafts and group.is_decoding and group.first_token_at is not None:
            for row in group.rows:
                yield group, row, request.max_new_tokens - len(row.generated_ids) - 1
