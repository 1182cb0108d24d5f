"""The ONNX runner: an exported decoder graph on ONNX Runtime's own operators.

The graph (GroupQueryAttention, as `optimize` exports it) reads and writes keys and values in place,
as one range of neighbouring rows. Used on the engine thread only, once loaded.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.row_runner import Floats, RowRunner


class OnnxRunner(RowRunner):
    """Runs a graph over planned rows and owns their cache."""

    def __init__(
        self,
        session: ort.InferenceSession,
        shape: DecoderShape,
        config: EngineConfig,
        *,
        vocab_size: int,
        is_batch_invariant: bool = True,
    ) -> None:
        super().__init__(shape, config, vocab_size=vocab_size)
        self._session = session
        self._is_batch_invariant = is_batch_invariant

    @classmethod
    def load(
        cls,
        graph: Path,
        shape: DecoderShape,
        config: EngineConfig,
        *,
        vocab_size: int,
        is_batch_invariant: bool = True,
    ) -> "OnnxRunner":
        """Open the graph and make its cache.

        Args:
            graph: the file of the graph.
            shape: of the model's keys and values.
            config: bounds of a step and of the cache.
            vocab_size: width of the logits.
            is_batch_invariant: whether its products give a row the same bits in every batch.

        Raises:
            CacheTooSmall: the memory for keys and values does not hold one step.
            StepTooSmall: a step full of decoding rows leaves no room for a piece of a prompt.
        """
        torch.set_num_threads(1)  # choosing tokens is short work beside threads that wait spinning
        options = ort.SessionOptions()
        options.intra_op_num_threads = config.num_threads or 0  # 0: one for each core
        options.log_severity_level = 3  # errors
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        return cls(
            session,
            shape,
            config,
            vocab_size=vocab_size,
            is_batch_invariant=is_batch_invariant,
        )

    @property
    def is_deterministic(self) -> bool:
        """If its products are, all is: prompts are computed in pieces of fixed places."""
        return self._is_batch_invariant

    def _compute(
        self, token_ids: NDArray[np.int64], lengths: Sequence[int], first_row: int
    ) -> Floats:
        """Logits [rows, vocab] of `token_ids` [rows, tokens], whose rows become `lengths` long."""
        num_rows = len(lengths)
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
        logits = np.empty((num_rows, 1, self._vocab_size), np.float32)
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", token_ids)
        binding.bind_cpu_input("attention_mask", mask)
        for row, length in enumerate(lengths):
            self._store.note_written(first_row + row, length)
        for layer in range(self._shape.num_layers):
            for name, array in (("key", self._store.keys), ("value", self._store.values)):
                view = array[layer, first_row : first_row + num_rows]
                place = ("cpu", 0, np.float32, view.shape, view.ctypes.data)
                binding.bind_input(f"past_key_values.{layer}.{name}", *place)
                binding.bind_output(f"present.{layer}.{name}", *place)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding)
        result: Floats = logits[:, 0]
        return result
