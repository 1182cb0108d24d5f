"""A program of torch, step by step, for measuring it. Opened by `opening`."""

from pathlib import Path

import torch

from optimize.program_manifest import ProgramManifest, read_program_manifest
from optimize.steps import Floats, TokenIds
from optimize.torch_program import Program, load_program


def open_program_steps(folder: Path, num_threads: int) -> "ProgramSteps":
    """The program in `folder`.

    Raises:
        ModelError: it cannot be read.
    """
    torch.set_num_threads(num_threads)
    manifest = read_program_manifest(folder)
    return ProgramSteps(load_program(folder, manifest), manifest)


class ProgramSteps:
    """A program with rows of its own, all of one length."""

    def __init__(self, program: Program, manifest: ProgramManifest) -> None:
        self._program = program
        self._manifest = manifest
        self.start(1, 1)

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self._manifest.vocab_size

    @property
    def context_length(self) -> int:
        """The most tokens of a row."""
        return self._manifest.context_length

    def start(self, num_rows: int, max_length: int) -> None:
        """Forget all rows, and make room for others."""
        shape = self._manifest
        room = (shape.num_layers, num_rows, shape.num_kv_heads, max_length, shape.head_dim)
        self._keys, self._values = torch.empty(room), torch.empty(room)
        self._length = 0

    def read(self, token_ids: TokenIds) -> Floats:
        """Logits [rows, vocab] after `token_ids` [rows, tokens], appended to the rows."""
        before, after = self._length, self._length + token_ids.shape[1]
        lengths = torch.full((len(token_ids),), before, dtype=torch.int64)
        with torch.no_grad():
            logits, keys, values = self._program(
                torch.from_numpy(token_ids),
                lengths,
                self._keys[:, :, :, :before],
                self._values[:, :, :, :before],
            )
        self._keys[:, :, :, before:after] = keys
        self._values[:, :, :, before:after] = values
        self._length = after
        result: Floats = logits.numpy()
        return result
