"""Presence and frequency penalties: what was generated already becomes less likely.

As OpenAI's API documents them and vLLM applies them: the logit of a token generated `count` times
loses `presence` once and `frequency` times `count`. The prompt does not count.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from decoding.base import DecodingRow


@dataclass(frozen=True, slots=True)
class OccurrencePenalties:
    """A request's two penalties."""

    presence: float
    frequency: float

    def shifts(self, row: DecodingRow) -> Mapping[int, float]:
        """What is added to the logits of which tokens."""
        return {
            token_id: -(self.presence + self.frequency * count)
            for token_id, count in Counter(row.generated_ids).items()
        }
