"""What every plain sampling strategy shares: a subclass only names its parameters.

`sample`, `top_k` and `top_p` are presets of the same draw; their fields carry the names of
`Processing`, and whatever a subclass leaves out keeps the value that does nothing.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

from decoding.base import Draw, Task
from decoding.independent import IndependentDecoder
from decoding.params import NumSamples, Processing, RepetitionPenalty

PROCESSING_FIELDS = frozenset(field.name for field in fields(Processing))


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingStrategy:
    """Random draws, `num_return_sequences` of them side by side."""

    repetition_penalty: RepetitionPenalty = 1.0
    num_return_sequences: NumSamples = 1

    is_deterministic: ClassVar[bool] = False

    @property
    def num_rows(self) -> int:
        """One row a sample."""
        return self.num_return_sequences

    @property
    def num_results(self) -> int:
        """One sequence a sample."""
        return self.num_return_sequences

    def start(self, task: Task) -> IndependentDecoder:
        """Begin decoding one request."""
        asked = {f.name: getattr(self, f.name) for f in fields(self)}
        processing = Processing(**{k: v for k, v in asked.items() if k in PROCESSING_FIELDS})
        ask = Draw(processing, task.seed, self.num_return_sequences)
        return IndependentDecoder(ask=ask, task=task)
