"""A strategy that forks and drops its rows at every step, far wilder than any beam search.

What it does is a pure function of the tokens it was given, so it ends the same way however its
request was planned, as long as every row saw its own past.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import MostLikely
from decoding.base import (
    Candidate,
    Continuation,
    Decision,
    DecodingRow,
    FinishReason,
    Hypothesis,
    Task,
)
from decoding.params import Processing

NUM_TOKENS = 29  # it picks among the first ones of any vocabulary
SHARE_SHUFFLED = 0.4  # of the steps; in the others all rows go on, so that they do grow apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """Continue at most `width` rows, now and then from parents picked anew."""

    width: int = 1

    name: ClassVar[str] = "shuffle"
    is_deterministic: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        """As many as announced."""
        return self.width

    @property
    def num_results(self) -> int:
        """All rows in one answer."""
        return 1

    def start(self, task: Task) -> "ShuffleDecoder":
        """Begin decoding one request."""
        return ShuffleDecoder(self.width, task)


class ShuffleDecoder:
    """Ends after the request's number of new tokens with everything that all rows generated."""

    ask = MostLikely(Processing())

    def __init__(self, width: int, task: Task) -> None:
        self._width = width
        self._task = task

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Pick parents by what was found in all rows."""
        tokens = [candidates[0].token_id for candidates in found]
        if len(rows[0].generated_ids) + 1 == self._task.max_new_tokens:
            return Decision(results=(_everything(rows, tokens),))
        choice = random.Random(repr((self._task.seed, tokens)))
        parents = [rank % len(rows) for rank in range(self._width)]
        if choice.random() < SHARE_SHUFFLED:
            num_live = choice.randint(1, self._width)
            parents = [choice.randrange(len(rows)) for _ in range(num_live)]
        return Decision(
            live=tuple(
                Continuation(
                    parent=parent,
                    token_id=(tokens[parent] + rank) % NUM_TOKENS,
                    logprob=0.0,
                    index=rank,
                )
                for rank, parent in enumerate(parents)
            )
        )


def _everything(rows: Sequence[DecodingRow], tokens: Sequence[int]) -> Hypothesis:
    token_ids = [
        token
        for row, newest in zip(rows, tokens, strict=True)
        for token in (*row.generated_ids, newest)
    ]
    return Hypothesis(
        token_ids=tuple(token_ids),
        logprobs=(0.0,) * len(token_ids),
        finish_reason=FinishReason.LENGTH,
    )
