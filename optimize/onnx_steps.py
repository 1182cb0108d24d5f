"""An exported graph, step by step, for measuring it. Opened by `opening`."""

from pathlib import Path

from optimize.onnx_manifest import read_manifest
from optimize.onnx_session import Chunk, RowSession, open_session
from optimize.steps import Floats, TokenIds


class OnnxSteps:
    """A graph on ONNX Runtime's own operators, with rows of its own."""

    def __init__(self, folder: Path, *, num_threads: int) -> None:
        self._manifest = read_manifest(folder)
        self._session = open_session(folder, num_threads=num_threads)
        self._rows: RowSession | None = None
        self._room = (0, 0)
        self._length = 0

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
        if self._room != (num_rows, max_length):
            self._room = num_rows, max_length
            self._rows = RowSession(
                self._session, self._manifest, rows=num_rows, max_length=max_length
            )
        self._length = 0

    def read(self, token_ids: TokenIds) -> Floats:
        """Logits [rows, vocab] after `token_ids` [rows, tokens], appended to the rows."""
        assert self._rows is not None, "rows are started before they are read"
        num_rows, num_tokens = token_ids.shape
        self._length += num_tokens
        chunk = Chunk(first_row=0, token_ids=token_ids, lengths=[self._length] * num_rows)
        (logits,) = self._rows.forward(chunk)
        last: Floats = logits[:, -1]
        return last
