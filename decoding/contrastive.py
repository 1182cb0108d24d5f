"""The `contrastive` strategy: of the likely next tokens, the one that repeats the text the least.

Su et al. 2022, arXiv:2202.06417, as contrastive search of `transformers`: a candidate is worth
(1 - penalty_alpha) times its probability, less penalty_alpha times the largest cosine similarity of
its hidden state to that of any token before it. A hidden state is known once the model has read the
token, so every candidate is a row of the batch, and each step reads `top_k` tokens to choose one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from typing_extensions import Doc

from decoding.ask import Best
from decoding.base import (
    Candidate,
    Continuation,
    Decision,
    DecodingRow,
    Emission,
    FinishReason,
    Hypothesis,
    Task,
)
from decoding.params import OnlyOneFound, Processing

NumCandidates = Annotated[
    int, Ge(2), Le(64), Doc("How many of the most likely tokens to choose among at each step.")
]
PenaltyAlpha = Annotated[
    float,
    Ge(0.0),
    Le(1.0),
    Doc("How much likeness to the text before counts against a token; 0 chooses the likeliest."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrastive:
    """Choose among the most likely tokens the one least like the text so far: deterministic."""

    top_k: NumCandidates = 4
    penalty_alpha: PenaltyAlpha = 0.6
    num_return_sequences: OnlyOneFound = 1

    name: ClassVar[str] = "contrastive"
    is_deterministic: ClassVar[bool] = True
    needs_hidden_states: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        """One row a candidate."""
        return self.top_k

    @property
    def num_results(self) -> int:
        """One sequence."""
        return 1

    def start(self, task: Task) -> "ContrastiveDecoder":
        """Begin decoding one request."""
        return ContrastiveDecoder(self, task)


class ContrastiveDecoder:
    """Its rows differ in their last token, of which one is kept. Only `advance` changes its state.

    The token that a row ends with was found a step before; it is chosen when its likeness is known.
    """

    def __init__(self, strategy: Contrastive, task: Task) -> None:
        self._strategy = strategy
        self._task = task
        self._chances: list[float] = []  # of the token that each row ends with; none of the prompt

    @property
    def ask(self) -> Best:
        """The candidates of each row, with their probabilities as a draw would have them."""
        return Best(Processing(), self._strategy.top_k, is_share=True)

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """Choose a row, and go on with its candidates; the prompt's row has nothing to choose."""
        if not self._chances:
            return self._go_on(0, found[0], ())
        chosen = max(range(len(rows)), key=lambda at: self._worth(rows[at], self._chances[at]))
        row = rows[chosen]
        emission = Emission(
            index=0, token_ids=(row.generated_ids[-1],), logprobs=(row.logprobs[-1],)
        )
        reason = self._task.finish_reason(row.generated_ids)
        if reason is None:
            return self._go_on(chosen, found[chosen], (emission,))
        result = Hypothesis(
            token_ids=tuple(row.generated_ids),
            logprobs=tuple(row.logprobs),
            finish_reason=reason,
        )
        return Decision(emissions=(emission,), results=(result,), verdicts=())

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        """What all rows have in common: the last token of each is not chosen yet."""
        num_chosen = len(rows[0].generated_ids) - bool(self._chances)
        result = Hypothesis(
            token_ids=tuple(rows[0].generated_ids[:num_chosen]),
            logprobs=tuple(rows[0].logprobs[:num_chosen]),
            finish_reason=FinishReason.TIMEOUT,
        )
        return Decision(results=(result,))

    def _worth(self, row: DecodingRow, chance: float) -> float:
        alpha = self._strategy.penalty_alpha
        return (1.0 - alpha) * chance - alpha * row.similarity

    def _go_on(
        self, parent: int, found: Sequence[Candidate], emissions: tuple[Emission, ...]
    ) -> Decision:
        possible = [candidate for candidate in found if candidate.score > -math.inf]
        self._chances = [math.exp(candidate.score) for candidate in possible]
        live = tuple(
            Continuation(
                parent=parent,
                token_id=candidate.token_id,
                logprob=candidate.logprob,
                index=index,
            )
            for index, candidate in enumerate(possible)
        )
        return Decision(live=live, emissions=emissions, verdicts=())  # nothing else ended
