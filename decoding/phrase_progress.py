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
    """Follows texts through a request's constraints. Holds no state of a text.

    A token that no phrase holds is looked at in no phrase, and one that some hold in these only.
    """

    def __init__(self, constraints: Sequence[Phrases]) -> None:
        self._shortest = tuple(min(map(len, phrases)) for phrases in constraints)
        self._holding: dict[int, list[_Place]] = {}  # by token
        for at, phrases in enumerate(constraints):
            for phrase in phrases:
                for token_id in set(phrase):
                    self._holding.setdefault(token_id, []).append(_Place(at, phrase))
        self.start = Progress(frozenset(), sum(self._shortest))

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Every token that some phrase holds, in ascending order."""
        return tuple(sorted(self._holding))

    def after(self, before: Progress, generated_ids: Sequence[int]) -> Progress:
        """The progress of a text, given its progress before its last token."""
        places = self._holding.get(generated_ids[-1], [])
        met = before.met | {
            place.constraint
            for place in places
            if tuple(generated_ids[-len(place.phrase) :]) == place.phrase
        }
        saved = max((self._num_saved(place, met, generated_ids) for place in places), default=0)
        shortest = sum(length for at, length in enumerate(self._shortest) if at not in met)
        return Progress(met, shortest - saved)

    def _num_saved(self, place: "_Place", met: frozenset[int], generated_ids: Sequence[int]) -> int:
        """How many tokens fewer a constraint takes now that the text has begun a phrase of it."""
        if place.constraint in met:
            return 0
        left = len(place.phrase) - _num_begun(place.phrase, generated_ids)
        return max(0, self._shortest[place.constraint] - left)


@dataclass(frozen=True, slots=True)
class _Place:
    """A phrase and the constraint that it meets."""

    constraint: int
    phrase: tuple[int, ...]


def _num_begun(phrase: tuple[int, ...], generated_ids: Sequence[int]) -> int:
    """How many tokens of the phrase the text ends with."""
    for length in range(min(len(phrase) - 1, len(generated_ids)), 0, -1):
        if tuple(generated_ids[-length:]) == phrase[:length]:
            return length
    return 0
