"""Runs an exported graph on rows of tokens, for calibrating, checking and measuring it.

Used inside this package only; the engine has a runner of its own. Keys and values live in one
buffer [layer, row, kv_head, position, head_dim] that the graph reads and writes in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from machine.cores import usable_cores
from optimize.errors import OnnxUnsupported
from optimize.onnx_manifest import GRAPH_FILE, OnnxManifest

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Tokens of `len(token_ids)` neighbouring rows from `first_row` on.

    Several rows bring one token each; a row that brings several comes alone.
    """

    first_row: int
    token_ids: NDArray[np.int64]  # [rows, tokens]
    lengths: Sequence[int]  # tokens of each row, these included


def open_session(
    folder: Path, *, num_threads: int | None = None, graph_file: str = GRAPH_FILE
) -> ort.InferenceSession:
    """The graph in `folder`, ready to run on the CPU.

    Args:
        folder: where the graph and its weights are.
        num_threads: of the runtime; None takes one for each core that this process may use.
        graph_file: the graph's name there.

    Raises:
        OnnxUnsupported: this build of ONNX Runtime cannot run it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cores() if num_threads is None else num_threads
    options.log_severity_level = 3  # errors
    try:
        return ort.InferenceSession(
            str(folder / graph_file), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its binding has a class a fault, without a base
        raise OnnxUnsupported(
            f"ONNX Runtime {ort.__version__} cannot run the graph in {folder} "
            f"({' '.join(str(error).split())[:300]})."
        ) from error


class RowSession:
    """A session with room for a number of rows. Not for several threads."""

    def __init__(
        self, session: ort.InferenceSession, manifest: OnnxManifest, *, rows: int, max_length: int
    ) -> None:
        shape = (manifest.num_layers, rows, manifest.num_kv_heads, max_length, manifest.head_dim)
        self._session = session
        self._keys: Floats = np.zeros(shape, np.float32)
        self._values: Floats = np.zeros(shape, np.float32)

    def forward(self, chunk: Chunk, outputs: Sequence[str] = ("logits",)) -> list[Floats]:
        """The named outputs for a chunk; keys and values of its tokens are kept."""
        binding = self._session.io_binding()
        mask = np.zeros((len(chunk.lengths), max(chunk.lengths)), np.int64)
        for row, length in enumerate(chunk.lengths):
            mask[row, :length] = 1
        token_ids = np.ascontiguousarray(chunk.token_ids, np.int64)
        binding.bind_cpu_input("input_ids", token_ids)
        binding.bind_cpu_input("attention_mask", mask)
        self._bind_cache(binding, chunk)
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        # The cache's outputs were bound first.
        return [value.numpy() for value in binding.get_outputs()[-len(outputs) :]]

    def _bind_cache(self, binding: ort.IOBinding, chunk: Chunk) -> None:
        rows = slice(chunk.first_row, chunk.first_row + len(chunk.lengths))
        for kind, buffer in (("key", self._keys), ("value", self._values)):
            for layer in range(len(buffer)):
                view = buffer[layer, rows]
                place = ("cpu", 0, np.float32, view.shape, view.ctypes.data)
                binding.bind_input(f"past_key_values.{layer}.{kind}", *place)
                binding.bind_output(f"present.{layer}.{kind}", *place)
