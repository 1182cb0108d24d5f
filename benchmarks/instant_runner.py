"""A runner that computes nothing: every row's next token is known at once.

What is left of a request's time is ours: HTTP, JSON, text, scheduling, choosing. The tokens are
words that the tokenizer knows, one after the other, so that texts grow as those of a model do.
"""

from collections.abc import Sequence

import torch

from decoding.logits import Logits, Summary
from engine.config import EngineConfig
from engine.paged_cache import PagedCache
from engine.plan import Plan

NUM_BLOCKS = 16_384


class InstantRunner:
    """Says of each row that the words go on. Satisfies `engine.runner.Runner`."""

    device_memory_bytes = 0
    has_all_logits = True
    has_hidden_states = False
    depth = None
    is_deterministic = True
    context_length = 8192

    def __init__(self, config: EngineConfig, *, vocab_size: int, word_ids: Sequence[int]) -> None:
        self.cache = PagedCache(num_blocks=NUM_BLOCKS, block_size=config.block_size)
        self.vocab_size = vocab_size
        self._word_ids = torch.tensor(word_ids)
        self._values = torch.zeros(1, vocab_size)
        self._normaliser = torch.logsumexp(self._values, dim=1, keepdim=True)

    def forward(self, plan: Plan) -> Logits:
        """Logits that are all the same, and which token is to be the best."""
        self.cache.take_copies()
        places = [place for row in plan.rows for place in range(row.end - row.num_logits, row.end)]
        best = self._word_ids[torch.tensor(places, dtype=torch.int64) % len(self._word_ids)]
        values = self._values.expand(len(places), -1)
        return Logits(values, Summary(self._normaliser.expand(len(places), 1), best[:, None]))
