"""Rows and logits for tests of decoding that need no engine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.base import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedRow:
    """A `DecodingRow` of fixed contents."""

    index: int = 0
    prompt_ids: tuple[int, ...] = (1, 2)
    generated_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    @property
    def token_ids(self) -> Sequence[int]:
        """Prompt and generated tokens."""
        return (*self.prompt_ids, *self.generated_ids)


def candidate(token_id: int, score: float = -1.0) -> Candidate:
    """A candidate whose log-probability is its score."""
    return Candidate(token_id, score, score)


def random_logits(num_rows: int, vocab_size: int, *, seed: int = 0, spread: float = 3.0) -> Tensor:
    """Logits [rows, vocab] in float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, vocab_size, generator=generator) * spread
