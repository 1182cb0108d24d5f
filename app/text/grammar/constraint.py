"""A grammar at work on one request: which tokens may follow those generated so far.

Satisfies `decoding.constraint.TokenConstraint`. Seen from outside it is a pure function; inside it
remembers the matchers of the newest texts, so that a token costs one step of one matcher and a
forked beam a copy. What it has forgotten, after a preemption say, it reads again from the start.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher

from decoding.constraint import ConstraintFailed, PackedTokens

REMEMBERED_PER_ROW = 16  # a row's newest text, the one before, and what drafts may add


class GrammarConstraint:
    """One request's grammar. Used on the engine's thread only, which alone writes to it."""

    def __init__(self, matcher: LLMatcher, *, num_rows: int) -> None:
        self._start = matcher
        self._most_remembered = REMEMBERED_PER_ROW * num_rows
        self._matchers: OrderedDict[tuple[int, ...], LLMatcher] = OrderedDict()
        self._outside: tuple[int, ...] | None = None  # the newest text that has left the grammar

    def allowed(self, generated_ids: Sequence[int]) -> PackedTokens:
        """The tokens that may follow; only end tokens where the text is complete.

        None may where the text has left the grammar, as a wrong draft does.

        Raises:
            ConstraintFailed: the grammar is too complex at this place.
        """
        matcher = self._matcher_after(tuple(generated_ids))
        if matcher is None:
            return np.zeros_like(self.allowed(()))
        packed = np.frombuffer(matcher.compute_bitmask(), np.uint32)
        if matcher.is_error():
            raise _too_complex()
        return packed

    def _matcher_after(self, generated_ids: tuple[int, ...]) -> LLMatcher | None:
        outside = self._outside
        if outside is not None and generated_ids[: len(outside)] == outside:
            return None  # whatever follows has left it, too: drafts do
        known = self._matchers.get(generated_ids)
        if known is not None:
            return known
        before = self._matchers.get(generated_ids[:-1]) if generated_ids else None
        matcher = (before or self._start).deep_copy()
        new_ids = list(generated_ids if before is None else generated_ids[-1:])
        if matcher.validate_tokens(new_ids) < len(new_ids):
            self._outside = generated_ids
            return None
        if new_ids and not matcher.consume_tokens(new_ids):
            raise _too_complex()
        self._matchers[generated_ids] = matcher
        while len(self._matchers) > self._most_remembered:
            self._matchers.popitem(last=False)
        return matcher


def _too_complex() -> ConstraintFailed:
    return ConstraintFailed(
        "the grammar of structured_outputs is too complex to go on; simplify it"
    )
