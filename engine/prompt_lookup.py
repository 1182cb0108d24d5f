"""Prompt lookup: guess the next tokens by finding the newest ones earlier in the text.

Saxena 2023, "Prompt Lookup Decoding", as `transformers`' `prompt_lookup_num_tokens`: of the places
where the text's last tokens occurred before, the newest one with the longest match says how the
text may go on; a guess that reaches the end repeats what it has copied. A guess is a pure function
of the row's tokens, and what it costs if it is wrong is time only: `engine.speculate` keeps what
would have been chosen anyway. No torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLookup:
    """How much a request lets itself be guessed."""

    num_tokens: int  # guessed at once, at most
    max_ngram_size: int  # longer matches count as this long

    def propose(self, token_ids: Sequence[int], most: int) -> list[int]:
        """Up to `most` tokens that may follow; none if the last token occurs for the first time."""
        count = min(self.num_tokens, most)
        if count < 1 or len(token_ids) < 2:
            return []
        ids = np.array(token_ids, np.int64)
        ends = np.nonzero(ids[:-1] == ids[-1])[0]
        for back in range(1, min(self.max_ngram_size, len(ids) - 1)):
            earlier = ends[ends >= back]
            longer = earlier[ids[earlier - back] == ids[-1 - back]]
            if not len(longer):
                break
            ends = longer
        if not len(ends):
            return []
        following: list[int] = ids[int(ends[-1]) + 1 :].tolist()
        return [following[at % len(following)] for at in range(count)]
