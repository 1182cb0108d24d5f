"""What runners over a cache of whole rows share: prompts piece by piece, then all decoding rows.

A model that takes one token of many rows of different lengths, or several tokens of one row on top
of its past, is run by `onnx_runner` or `program_runner`; each says only how such a call is made.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from decoding.logits import Logits
from engine.cache_size import budget_bytes, require_free
from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.errors import CacheTooSmall, StepTooSmall
from engine.plan import Plan, PlannedRow
from engine.row_cache import RowCache
from engine.row_store import RowStore

Floats = NDArray[np.float32]

PIECE_TOKENS = 64  # a prompt is computed in pieces of so many tokens, and shared in them


class RowRunner:
    """Runs a model over planned rows and owns their cache. A subclass computes."""

    def __init__(self, shape: DecoderShape, config: EngineConfig, *, vocab_size: int) -> None:
        """Make the cache.

        Raises:
            CacheTooSmall: the memory for keys and values does not hold one step.
            CacheTooLarge: the settings ask for more memory than is free.
            StepTooSmall: a step full of decoding rows leaves no room for a piece of a prompt.
        """
        if config.max_step_tokens < config.max_rows + PIECE_TOKENS:
            raise StepTooSmall(
                f"max_step_tokens ({config.max_step_tokens}) must be at least max_rows "
                f"({config.max_rows}) plus {PIECE_TOKENS}, the tokens of a piece of a prompt"
            )
        num_donors = config.max_rows
        self._shape = shape
        self._vocab_size = vocab_size
        self._cache = RowCache(
            num_rows=config.max_rows,
            num_donors=num_donors,
            max_tokens=_max_tokens(shape, config),
            alignment=PIECE_TOKENS,
        )
        self._store = RowStore(shape, num_rows=config.max_rows + num_donors + 1)

    def _compute(
        self, token_ids: NDArray[np.int64], lengths: Sequence[int], first_row: int
    ) -> Floats:
        """Logits [rows, vocab] of `token_ids` [rows, tokens], whose rows become `lengths` long.

        The rows lie in the store from `first_row` on; keys and values of the tokens are kept there.
        """
        raise NotImplementedError

    @property
    def cache(self) -> RowCache:
        """Accounting of the rows."""
        return self._cache

    @property
    def context_length(self) -> int:
        """The longest sequence the model can continue, in tokens."""
        return self._shape.context_length

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self._vocab_size

    @property
    def has_hidden_states(self) -> bool:
        """Its graphs and programs put out logits alone."""
        return False

    @property
    def depth(self) -> None:
        """Nor does it look between layers."""

    @property
    def has_all_logits(self) -> bool:
        """A call gives the logits of each row's last token only."""
        return False

    @property
    def is_deterministic(self) -> bool:
        """Whether a row is computed alike in every batch: for a subclass to say."""
        raise NotImplementedError

    @property
    def device_memory_bytes(self) -> int:
        """Nothing is on an accelerator."""
        return 0

    def forward(self, plan: Plan) -> Logits:
        """Logits of the rows that want them after computing the plan's tokens."""
        assert all(row.num_logits <= 1 for row in plan.rows), "one token of a row at a time"
        decoding = [row for row in plan.rows if row.end - row.start == 1]
        self._cache.pack([row.sequence.id for row in decoding])
        self._store.copy(self._cache.take_copies())
        self._store.trim(self._cache.lengths(), max_tokens=self._cache.max_tokens)
        found: dict[int, Floats] = {}
        for row in plan.rows:
            if row.end - row.start > 1:
                found[row.sequence.id] = self._run_prompt(row)
        if decoding:
            found |= self._run_decoding(decoding)
        wanted = [found[row.sequence.id] for row in plan.rows if row.num_logits]
        if not wanted:
            return Logits(torch.empty((0, self._vocab_size)))
        return Logits(torch.from_numpy(np.stack(wanted)))

    def _run_prompt(self, row: PlannedRow) -> Floats:
        """Logits [vocab] after several tokens of one row, computed piece by piece.

        Pieces end at fixed positions: what the row holds then depends on its tokens alone, not on
        how the step's budget happened to cut its prompt.
        """
        place = self._cache.place(row.sequence.id)
        start = row.start
        while True:
            end = min(start - start % PIECE_TOKENS + PIECE_TOKENS, row.end)
            token_ids = np.array([row.sequence.tokens_between(start, end)], np.int64)
            logits: Floats = self._compute(token_ids, [end], place)[0]
            if end == row.end:
                return logits
            start = end

    def _run_decoding(self, rows: Sequence[PlannedRow]) -> dict[int, Floats]:
        """Logits [vocab] of each sequence after one token each."""
        in_place = sorted(rows, key=lambda row: self._cache.place(row.sequence.id))
        token_ids = np.array(
            [row.sequence.tokens_between(row.start, row.end) for row in in_place], np.int64
        )
        logits = self._compute(token_ids, [row.end for row in in_place], 0)
        return {row.sequence.id: logits[at] for at, row in enumerate(in_place)}


def _max_tokens(shape: DecoderShape, config: EngineConfig) -> int:
    budget = budget_bytes(config)
    max_tokens = min(budget // shape.bytes_per_token, config.max_rows * shape.context_length)
    if max_tokens < config.max_rows:
        raise CacheTooSmall(
            f"{budget} bytes hold the keys and values of {max_tokens} tokens, fewer than the "
            f"{config.max_rows} rows of a step: raise kv_cache_bytes or lower max_rows"
        )
    require_free(max_tokens * shape.bytes_per_token)
    return max_tokens
