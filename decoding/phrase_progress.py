"""How far a text has come with the words that it must contain.

Used by `constrained_beam`. A constraint is a set of phrases, sequences of tokens, one of which must
occur; constraints may be met in any order. All of it is a function of the generated tokens and of
what was met before the newest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Phrases = tuple[tuple[int, ...], ...]
"""The ways to say one thing; none is empty."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a text has met, and how far it is from meeting the rest."""

    met: frozenset[int]  # constraints, by their place
    num_missing: int  # tokens that the rest takes at least

    @property
    def is_complete(self) -> bool:
        """Whether every constraint is met."""
        return self.num_missing == 0


class PhraseTracker:
    """Follows texts through a request's constraints. Holds no state of a text."""

    def __init__(self, constraints: Sequence[Phrases]) -> None:
        self._constraints = tuple(constraints)
        self.start = self._progress(frozenset(), ())

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Every token that some phrase holds, in ascending order."""
        return tuple(
            sorted({t for phrases in self._constraints for phrase in phrases for t in phrase})
        )

    def after(self, before: Progress, generated_ids: Sequence[int]) -> Progress:
        """The progress of a text, given its progress before its last token."""
        newly_met = {
            at
            for at, phrases in enumerate(self._constraints)
            if at not in before.met
            and any(tuple(generated_ids[-len(phrase) :]) == phrase for phrase in phrases)
        }
        return self._progress(before.met | newly_met, generated_ids)

    def _progress(self, met: frozenset[int], generated_ids: Sequence[int]) -> Progress:
        """The shortest phrases of all that is unmet, less the most that one has begun to save."""
        shortest, saved = 0, 0
        for at, phrases in enumerate(self._constraints):
            if at in met:
                continue
            whole = min(map(len, phrases))
            left = min(len(phrase) - _num_begun(phrase, generated_ids) for phrase in phrases)
            shortest += whole
            saved = max(saved, whole - left)
        return Progress(met, shortest - saved)


def _num_begun(phrase: tuple[int, ...], generated_ids: Sequence[int]) -> int:
    """How many tokens of the phrase the text ends with."""
    for length in range(min(len(phrase) - 1, len(generated_ids)), 0, -1):
        if tuple(generated_ids[-length:]) == phrase[:length]:
            return length
    return 0
