"""What a request asked to see besides its tokens, noted while it runs.

The engine writes it, one per group. What was likely at a place is kept under the text before the
place, not under a row: rows fork, end and change their order, and of a finished sequence the text
is what is known. So it works for every strategy, beams included, and no strategy knows of it.
"""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from decoding.base import Alternatives, TokenScore


@dataclass(slots=True)
class Observed:
    """Alternatives by the text before them, and prompt tokens by their place."""

    _alternatives: dict[bytes, Alternatives] = field(default_factory=dict)
    _prompt: dict[int, TokenScore] = field(default_factory=dict)
    _told: "dict[int, hashlib.blake2b]" = field(default_factory=dict)  # of sequences, by index

    def note(self, generated_ids: Sequence[int], alternatives: Alternatives) -> None:
        """What was most likely after these generated tokens."""
        self._alternatives[_digest(generated_ids)] = alternatives

    def note_prompt(self, first: int, scores: Iterable[TokenScore]) -> None:
        """How likely the prompt's tokens from position `first` on were."""
        self._prompt.update(enumerate(scores, start=first))

    def alternatives_of(self, generated_ids: Sequence[int]) -> tuple[Alternatives, ...]:
        """What was most likely at each place of a finished sequence."""
        return self._follow(hashlib.blake2b(digest_size=16), generated_ids)

    def next_alternatives(self, index: int, token_ids: Sequence[int]) -> tuple[Alternatives, ...]:
        """What was most likely at the places of the next tokens of a returned sequence.

        Counts them as told: the next call goes on behind them.
        """
        told = self._told.setdefault(index, hashlib.blake2b(digest_size=16))
        return self._follow(told, token_ids)

    def _follow(
        self, digest: hashlib.blake2b, token_ids: Sequence[int]
    ) -> tuple[Alternatives, ...]:
        """What was most likely at the places of tokens; `digest` is of all before, and goes on."""
        found = []
        for token_id in token_ids:
            found.append(self._alternatives.get(digest.digest(), ()))
            digest.update(array("q", (token_id,)).tobytes())
        return tuple(found)

    @property
    def prompt_scores(self) -> tuple[TokenScore, ...]:
        """The prompt's tokens that were asked for, in order."""
        return tuple(self._prompt[place] for place in sorted(self._prompt))


def _digest(token_ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", token_ids).tobytes(), digest_size=16).digest()
