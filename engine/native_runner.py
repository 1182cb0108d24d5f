"""The native runner: an exported decoder on ONNX Runtime with our own operators. Fastest on a CPU.

The graph (`optimize/onnx_native.py`) takes a flat batch, so a step is one call for the decoding
rows and the chunks of prompts together, and its attention (`engine/native/`) reads keys and values
from the blocks of a paged cache. Each token is computed by itself in an order of its own, so its
bits depend on its sequence alone. Used on the engine thread only, once loaded.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from decoding.base import ModelDepth
from decoding.logits import EarlyExits, Logits, Summary
from engine.cache_size import budget_bytes, require_free
from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.early_exits import KeptRows, kept_rows
from engine.errors import CacheTooSmall
from engine.paged_cache import PagedCache
from engine.plan import Plan, PlannedRow
from engine.row_store import NO_RESERVE

BLOCK_TOKENS = 16  # positions of a block, as the operators lay them out
_NO_PLACES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A step as the graph takes it."""

    token_ids: NDArray[np.int64]  # [1, tokens]
    tables: NDArray[np.int32]  # [rows, blocks]
    starts: NDArray[np.int32]  # [rows + 1]
    lengths: NDArray[np.int32]  # [rows]
    logits_at: NDArray[np.int64]  # [wanted]
    kept_at: NDArray[np.int32]  # [kept]
    states: NDArray[np.float32]  # [layers, kept, width], written by the graph
    early: NDArray[np.float32]  # [1, early, width]


class NativeRunner:
    """Runs a native graph over planned rows and owns their cache."""

    def __init__(
        self,
        session: ort.InferenceSession,
        *,
        num_blocks: int,
        shape: DecoderShape,
        vocab_size: int,
    ) -> None:
        self._session = session
        width = next(each.shape[-1] for each in session.get_inputs() if each.name == "early_states")
        self._no_states = np.empty((1, 0, width), np.float32)
        self._depth = ModelDepth(
            num_layers=shape.num_layers, has_tied_embeddings=shape.has_tied_embeddings
        )
        self._cache = PagedCache(num_blocks=num_blocks, block_size=BLOCK_TOKENS)
        self._blocks = _map_blocks(num_blocks, shape)
        self._shape = shape
        self._vocab_size = vocab_size
        self._logits = np.empty((0, vocab_size), np.float32)  # reused: a step's are read before

    @classmethod
    def load(
        cls,
        graph: Path,
        library: Path,
        shape: DecoderShape,
        config: EngineConfig,
        *,
        vocab_size: int,
    ) -> "NativeRunner":
        """Open the graph with the operators in `library` and make the cache.

        Raises:
            CacheTooSmall: the memory for keys and values does not hold one step.
            CacheTooLarge: the settings ask for more memory than is free.
        """
        torch.set_num_threads(1)  # choosing tokens is short work beside threads that wait spinning
        options = ort.SessionOptions()
        options.intra_op_num_threads = config.num_threads or 0  # 0: one for each core
        options.log_severity_level = 3  # errors
        options.register_custom_ops_library(str(library))
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        num_blocks = _num_blocks(shape, config)
        return cls(session, num_blocks=num_blocks, shape=shape, vocab_size=vocab_size)

    @property
    def cache(self) -> PagedCache:
        """Accounting of the blocks."""
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
    def has_all_logits(self) -> bool:
        """Each token of a flat batch has logits of its own."""
        return True

    @property
    def has_hidden_states(self) -> bool:
        """The graph puts them out."""
        return True

    @property
    def depth(self) -> ModelDepth:
        """Every layer's attention keeps what its layer was given, where it is asked to."""
        return self._depth

    @property
    def is_deterministic(self) -> bool:
        """Each token is computed by itself, in an order of its own."""
        return True

    @property
    def device_memory_bytes(self) -> int:
        """Nothing is on an accelerator."""
        return 0

    def forward(self, plan: Plan) -> Logits:
        """Logits of the rows that want them after computing the plan's tokens.

        They are overwritten by the next call.
        """
        copies = self._cache.take_copies()
        if copies:
            sources, destinations = zip(*copies, strict=True)
            self._blocks[list(destinations)] = self._blocks[list(sources)]
        num_wanted = sum(row.num_logits for row in plan.rows)
        kept = kept_rows(plan)
        step = self._lay_out(plan.rows, kept)
        said = self._run(step, has_hidden=bool(plan.watched))
        logits, summary, hidden = (torch.from_numpy(each[:num_wanted]) for each in said)
        return Logits(
            logits,
            _summary(summary),
            hidden if plan.watched else None,
            None if kept is None else self._early_exits(step, kept),
        )

    def _lay_out(self, rows: Sequence[PlannedRow], kept: KeptRows | None) -> "_Step":
        """The rows' tokens one after the other."""
        token_ids: list[int] = []
        starts: list[int] = [0]
        logits_at: list[int] = []
        for row in rows:
            token_ids += row.sequence.tokens_between(row.start, row.end)
            starts.append(len(token_ids))
            logits_at += range(len(token_ids) - row.num_logits, len(token_ids))
        kept_at = np.array([logits_at[row] for row in kept.rows] if kept else [], np.int32)
        width = self._no_states.shape[2]
        return _Step(
            token_ids=np.array([token_ids], np.int64),
            tables=self._tables(rows),
            starts=np.array(starts, np.int32),
            lengths=np.array([row.end for row in rows], np.int32),
            logits_at=np.array(logits_at or [0], np.int64),  # the graph cannot take none
            kept_at=kept_at,
            states=np.empty((self._shape.num_layers, len(kept_at), width), np.float32),
            early=self._no_states,
        )

    def _run(self, step: "_Step", *, has_hidden: bool) -> list[NDArray[np.float32]]:
        """Logits [wanted, vocab], what the graph says of each row of them [wanted, 2], and more.

        That is the hidden states that they are computed from, [wanted, width], or nothing.
        """
        logits = self._room_for(len(step.logits_at))
        summary = np.empty((len(step.logits_at), 2), np.float32)
        binding = self._bind(step)
        binding.bind_output("logits", "cpu", 0, np.float32, (1, *logits.shape), logits.ctypes.data)
        place = ("summary", "cpu", 0, np.float32, (1, *summary.shape), summary.ctypes.data)
        binding.bind_output(*place)
        if not has_hidden:
            self._session.run_with_iobinding(binding)
            return [logits, summary, summary[:0]]
        binding.bind_output("hidden", "cpu")
        self._session.run_with_iobinding(binding)
        return [logits, summary, binding.get_outputs()[-1].numpy()[0]]

    def _bind(self, step: "_Step") -> ort.IOBinding:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", step.token_ids)
        binding.bind_cpu_input("cache", self._blocks)
        binding.bind_cpu_input("block_tables", step.tables)
        binding.bind_cpu_input("row_starts", step.starts)
        binding.bind_cpu_input("row_lengths", step.lengths)
        binding.bind_cpu_input("logits_at", step.logits_at)
        binding.bind_cpu_input("kept_at", step.kept_at)
        binding.bind_cpu_input("inner_states", step.states)
        binding.bind_cpu_input("early_states", step.early)
        return binding

    def _early_exits(self, step: "_Step", kept: KeptRows) -> EarlyExits:
        states = {layer: torch.from_numpy(step.states[layer]) for layer in kept.layers}
        return EarlyExits(states=states, head=self._say, places=kept.places)

    def _say(self, states: Tensor) -> Logits:
        """Logits of states [rows, width]: a step without tokens puts them through the head."""
        step = replace(self._lay_out((), None), logits_at=_NO_PLACES, early=states[None].numpy())
        binding = self._bind(step)
        for name in ("logits", "summary"):
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        logits, summary = (torch.from_numpy(each.numpy()[0]) for each in binding.get_outputs())
        return Logits(logits, _summary(summary))

    def _tables(self, rows: Sequence[PlannedRow]) -> NDArray[np.int32]:
        """Each row's blocks, padded with blocks that are not read."""
        tables = [self._cache.block_table(row.sequence.id) for row in rows]
        padded = np.zeros((len(rows), max(map(len, tables), default=0)), np.int32)
        for at, table in enumerate(tables):
            padded[at, : len(table)] = table
        return padded

    def _room_for(self, num_rows: int) -> NDArray[np.float32]:
        if num_rows > len(self._logits):
            self._logits = np.empty((num_rows, self._vocab_size), np.float32)
        return self._logits[:num_rows]


def _summary(said: Tensor) -> Summary:
    """What the graph says of each row of logits, [rows, 2]."""
    return Summary(said[:, :1], said[:, 1:].long())


def _map_blocks(num_blocks: int, shape: DecoderShape) -> NDArray[np.float32]:
    """Memory for blocks [blocks, floats], claimed where it is written, in large pages if any."""
    width = BLOCK_TOKENS * shape.floats_per_token
    memory = mmap.mmap(
        -1, num_blocks * width * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    )
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # a step reads all of it: small pages cost as much again
    return np.frombuffer(memory, np.float32).reshape(num_blocks, width)


def _num_blocks(shape: DecoderShape, config: EngineConfig) -> int:
    budget = budget_bytes(config)
    block_bytes = BLOCK_TOKENS * shape.bytes_per_token
    of_full_batch = config.max_rows * -(-shape.context_length // BLOCK_TOKENS)
    num_blocks = min(budget // block_bytes, of_full_batch)
    if num_blocks < config.max_rows:
        raise CacheTooSmall(
            f"{budget} bytes hold {num_blocks} cache blocks of {block_bytes} bytes; "
            f"{config.max_rows} are needed: raise kv_cache_bytes or lower max_rows"
        )
    require_free(num_blocks * block_bytes)
    return num_blocks
