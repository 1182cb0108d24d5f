"""What a request's grammar is to decoding: which tokens may follow, given those generated so far.

`app/text/grammar` implements it for structured output; the engine asks it once a step and row, and
`decoding.processors.token_mask` drops the other tokens, whatever the strategy. No torch.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PackedTokens = NDArray[np.uint32]
"""A set of tokens [ceil(vocab / 32)]: token i is bit i % 32 of word i // 32."""


class ConstraintFailed(Exception):
    """The constraint cannot say what may follow; the message is fit for clients."""


class TokenConstraint(Protocol):
    """A pure function of the generated tokens; used on the engine's thread only."""

    def allowed(self, generated_ids: Sequence[int]) -> PackedTokens:
        """The tokens that may follow, end tokens among them where the text may end.

        Raises:
            ConstraintFailed: working it out would take more than a request may use.
        """
