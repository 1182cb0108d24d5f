"""The torch runner: any causal LM of transformers, unmodified, on a flat batch of many sequences.

Built by the composition root with `TorchRunner.load`, which proves by a self-test that this very
model comes out right this way, or refuses it. Owns the paged cache and its tensors. Runs on CPU
and CUDA; it is the reference for correctness everywhere.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from decoding.base import ModelDepth
from decoding.logits import EarlyExits, Logits
from engine.attention_switch import probe_layers, switch_attention
from engine.cache_size import num_cache_blocks
from engine.config import EngineConfig
from engine.early_exits import KeptRows, kept_rows
from engine.errors import UnsupportedModel
from engine.flat_batch import FlatBatch, build_flat_batch
from engine.inner_layers import InnerLayers
from engine.kv_store import KVStore, LayerShape
from engine.last_states import LastStates
from engine.paged_attention import ATTENTION_NAME, register_paged_attention
from engine.paged_cache import PagedCache
from engine.plan import Plan, PlannedRow
from engine.self_test import SelfTest, check_windows, usable_context
from engine.sequence import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """What the shards of one model settle between them while they are loaded."""

    agree: Callable[[int], int]  # on the number of blocks of which each shard has room
    expected: SelfTest | None  # of the whole model; None: each shard's own attention is compared


class TorchRunner:
    """Runs a module over planned rows. Used on the engine thread only, once loaded."""

    def __init__(
        self,
        module: PreTrainedModel,
        *,
        cache: PagedCache,
        store: KVStore,
        context_length: int,
        inner: InnerLayers | None = None,
    ) -> None:
        self._module = module
        self._cache = cache
        self._store = store
        self._context_length = context_length
        self._inner = inner
        self._device = module.device
        self._can_select_logits = "logits_to_keep" in inspect.signature(module.forward).parameters

    @classmethod
    def load(
        cls,
        module: PreTrainedModel,
        config: EngineConfig,
        *,
        context_length: int,
        compile_layers: Callable[[PreTrainedModel], None] | None = None,
        sharing: Sharing | None = None,
    ) -> "TorchRunner":
        """Switch a module in eval mode to paged attention, make its cache, prove that it works.

        Args:
            module: on its device.
            config: of the engine.
            context_length: the model's own, in tokens.
            compile_layers: has its layers compiled, which happens here and not while serving.
            sharing: if the module is one shard of a model; the other shards are loaded with it.

        Raises:
            UnsupportedModel: the module cannot run this way, or comes out different.
            CacheTooSmall: the memory for keys and values does not hold one step.
        """
        if module.config.is_encoder_decoder:
            raise UnsupportedModel(f"{type(module).__name__} is not decoder-only")
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        plain_attention = module.config._attn_implementation
        register_paged_attention(is_compiled=compile_layers is not None)
        switch_attention(module, ATTENTION_NAME)
        probe = probe_layers(module)
        context_length = usable_context(module, context_length)
        check_windows(module, probe.windows, context_length)
        switch_attention(module, plain_attention)
        # A compiled layer does not see who looks at what goes into it.
        inner = InnerLayers.of(module) if compile_layers is None else None
        expected = None if sharing is None else sharing.expected
        self_test = SelfTest.of(module, context_length) if expected is None else expected
        switch_attention(module, ATTENTION_NAME)
        num_blocks = num_cache_blocks(
            probe.shapes.values(),
            config,
            dtype=module.dtype,
            device=module.device,
            context_length=context_length,
        )
        if sharing is not None:
            num_blocks = sharing.agree(num_blocks)
        build = partial(cls._build, module, probe.shapes, config.block_size, context_length, inner)
        if compile_layers is not None:
            compile_layers(module)
            _run_single_token(build(2))
        trial = build(self_test.num_blocks(config.block_size))
        self_test.check(module, trial)
        return build(num_blocks)

    @classmethod
    def _build(
        cls,
        module: PreTrainedModel,
        shapes: Mapping[int, LayerShape],
        block_size: int,
        context_length: int,
        inner: InnerLayers | None,
        num_blocks: int,
    ) -> "TorchRunner":
        store = KVStore(
            shapes,
            num_blocks=num_blocks,
            block_size=block_size,
            dtype=module.dtype,
            device=module.device,
        )
        cache = PagedCache(num_blocks=num_blocks, block_size=block_size)
        return cls(module, cache=cache, store=store, context_length=context_length, inner=inner)

    @property
    def cache(self) -> PagedCache:
        """Accounting of the paged cache."""
        return self._cache

    @property
    def store(self) -> KVStore:
        """The tensors of the paged cache."""
        return self._store

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    @property
    def context_length(self) -> int:
        """The longest sequence the model can continue, in tokens."""
        return self._context_length

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return int(self._module.config.get_text_config().vocab_size)

    @property
    def has_all_logits(self) -> bool:
        """Each token of a flat batch has logits of its own."""
        return True

    @property
    def has_hidden_states(self) -> bool:
        """What the module's inner model puts out, before it becomes logits."""
        return self._module.base_model is not self._module

    @property
    def depth(self) -> ModelDepth | None:
        """The module's layers, if what goes into them can be looked at."""
        return None if self._inner is None else self._inner.depth

    @property
    def is_deterministic(self) -> bool:
        """Matrix products of other shapes add up in other orders."""
        return False

    @property
    def device_memory_bytes(self) -> int:
        """Memory torch has allocated on the accelerator; 0 on a CPU."""
        if self._device.type != "cuda":
            return 0
        return torch.cuda.memory_allocated(self._device)

    def forward(self, plan: Plan) -> Logits:
        """Logits of the rows that want them after computing the plan's tokens."""
        batch = build_flat_batch(plan, self._cache, self._store, self._device)
        return self.compute(batch, self._cache.take_copies(), plan)

    def compute(
        self, batch: FlatBatch, copies: Items[tuple[int, int]], plan: Plan | None = None
    ) -> Logits:
        """Logits of a batch that is laid out, after blocks were copied.

        Args:
            batch: on the module's device, over this runner's store.
            copies: (source, destination) blocks.
            plan: says what else is wanted of the module; None: nothing.
        """
        kept = None if plan is None else kept_rows(plan)
        is_watched = plan is not None and bool(plan.watched)
        with torch.inference_mode():
            self._store.copy_blocks(copies)
            with (
                LastStates(self._module, is_wanted=is_watched) as hidden,
                self._looking_inside(kept, batch.logits_at) as early,
            ):
                values = self._logits(
                    batch.logits_at,
                    input_ids=batch.token_ids,
                    position_ids=batch.positions,
                    flat_batch=batch,
                )
        return Logits(values, hidden=hidden.of(batch.logits_at), early=early)

    def say(self, states: Tensor) -> Logits:
        """What the module's head makes of states [rows, width] of an inner layer."""
        assert self._inner is not None, "layers are only asked for where there are some"
        return self._inner.say(states.to(self._device))

    @contextmanager
    def _looking_inside(
        self, kept: KeptRows | None, logits_at: Tensor
    ) -> Iterator[EarlyExits | None]:
        """Early exits of the rows of logits that are kept; None if there are none."""
        if kept is None:
            yield None
            return
        assert self._inner is not None, "layers are only asked for where there are some"
        at = logits_at[list(kept.rows)]
        with self._inner.watched(kept.layers, at) as states:
            yield self._inner.exits(states, kept)

    def _logits(self, at: Tensor, **inputs: object) -> Tensor:
        if self._can_select_logits:
            logits = self._module(**inputs, use_cache=False, logits_to_keep=at).logits
        else:
            logits = self._module(**inputs, use_cache=False).logits[:, at]
        result: Tensor = logits[0]
        return result


def set_num_threads(num_threads: int) -> None:
    """How many threads of a CPU torch computes with from here on, in this process."""
    torch.set_num_threads(num_threads)


def _run_single_token(runner: TorchRunner) -> None:
    """A step of one token has compiled code of its own; the self-test has only larger ones."""
    sequence = Sequence(id=0, prompt_ids=(0,))
    runner.cache.match_prefix(sequence.id, (), "")
    assert runner.cache.reserve(sequence.id, 0, 1), "an empty cache holds one token"
    runner.forward(Plan(rows=(PlannedRow(sequence, 0, 1, num_logits=1),), stepping=()))
