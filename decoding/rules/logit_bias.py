"""Logit bias: a number added to the logits of given tokens, as OpenAI's `logit_bias`."""

from collections.abc import Mapping
from dataclasses import dataclass

from decoding.base import DecodingRow


@dataclass(frozen=True, slots=True)
class LogitBias:
    """A request's biases, as pairs of token id and bias."""

    biases: tuple[tuple[int, float], ...]

    def shifts(self, row: DecodingRow) -> Mapping[int, float]:  # noqa: ARG002  the same for all
        """What is added to the logits of which tokens."""
        return dict(self.biases)
