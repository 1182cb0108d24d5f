"""Which of a few tokens comes next, and how likely each is: one step, nothing is generated.

Not a strategy that requests can name: the service asks it of itself for typed decisions. The answer
has one sequence a label, in the order of the labels, whose log-probability is the model's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decoding.ask import Best
from decoding.base import Candidate, Decision, DecodingRow, FinishReason, Hypothesis, Task
from decoding.params import Processing


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelChoice:
    """Tell how likely each of these tokens is to come next."""

    label_ids: tuple[int, ...]

    name: ClassVar[str] = "label_choice"
    is_deterministic: ClassVar[bool] = True

    @property
    def num_rows(self) -> int:
        """One row."""
        return 1

    @property
    def num_results(self) -> int:
        """One sequence a label."""
        return len(self.label_ids)

    def start(self, task: Task) -> "LabelDecoder":  # noqa: ARG002  it has nothing to decide by
        """Begin decoding one request."""
        return LabelDecoder(self.label_ids)


class LabelDecoder:
    """Ends after one step. Holds no state."""

    def __init__(self, label_ids: tuple[int, ...]) -> None:
        self._num_labels = len(label_ids)
        self._ask = Best(Processing(), count=1, also=label_ids)

    @property
    def ask(self) -> Best:
        """The labels; the best token of all comes with them."""
        return self._ask

    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        """All labels, as sequences of one token."""
        del rows
        labels = found[0][-self._num_labels :]
        return Decision(results=tuple(map(_hypothesis, labels)))


def _hypothesis(label: Candidate) -> Hypothesis:
    return Hypothesis(
        token_ids=(label.token_id,),
        logprobs=(label.logprob,),
        finish_reason=FinishReason.LENGTH,
        score=label.logprob,
    )
