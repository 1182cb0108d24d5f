"""What measuring needs of a model, whatever computes it: rows of tokens in, logits out.

`onnx_steps`, `module_steps` and `program_steps` are such models; `quality` and `speed` use them.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
TokenIds = NDArray[np.int64]


class Steps(Protocol):
    """A model that reads rows of equal length a few tokens at a time."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    @property
    def context_length(self) -> int:
        """The most tokens of a row."""

    def start(self, num_rows: int, max_length: int) -> None:
        """Forget all rows, and make room for others of up to `max_length` tokens."""

    def read(self, token_ids: TokenIds) -> Floats:
        """Append `token_ids` [rows, tokens] to the rows; logits [rows, vocab] after the last one.

        Several tokens at once only where there is one row.
        """
