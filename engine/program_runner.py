"""The program runner: a model that was written as one function of tensors, run by torch on a CPU.

`optimize.torch_program` makes such functions and says what goes in and out. Keys and values are
kept here, in rows, and handed over with each call. Used on the engine thread only, once loaded.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.row_runner import Floats, RowRunner

Program = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Token ids, past lengths, past keys, past values; logits, new keys, new values."""


class ProgramRunner(RowRunner):
    """Runs a program over planned rows and owns their cache."""

    def __init__(
        self, program: Program, shape: DecoderShape, config: EngineConfig, *, vocab_size: int
    ) -> None:
        super().__init__(shape, config, vocab_size=vocab_size)
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        self._program = program

    @property
    def is_deterministic(self) -> bool:
        """Torch's matrix products of other shapes add up in other orders."""
        return False

    def _compute(
        self, token_ids: NDArray[np.int64], lengths: Sequence[int], first_row: int
    ) -> Floats:
        """Logits [rows, vocab] of `token_ids` [rows, tokens], whose rows become `lengths` long."""
        num_rows, num_tokens = token_ids.shape
        past = np.array(lengths, np.int64) - num_tokens
        rows = slice(first_row, first_row + num_rows)
        longest = int(past.max())
        store = self._store
        with torch.no_grad():
            logits, keys, values = self._program(
                torch.from_numpy(token_ids),
                torch.from_numpy(past),
                torch.from_numpy(store.keys[:, rows, :, :longest]),
                torch.from_numpy(store.values[:, rows, :, :longest]),
            )
        for row, length in enumerate(lengths):
            store.note_written(first_row + row, length)
            new = (slice(None), first_row + row, slice(None), slice(length - num_tokens, length))
            store.keys[new] = keys[:, row].numpy()
            store.values[new] = values[:, row].numpy()
        result: Floats = logits.numpy()
        return result
