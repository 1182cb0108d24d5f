"""One model computed by several processes, each with a shard of it: tensor parallelism.

`ShardedRunner` is the engine's runner in the process that serves. It tells the others what each
step computes and takes part itself; `follow` is what they do. Their shards come from transformers'
own plan, whose layers meet in collectives, so all must compute the same steps in the same order.
Block tables and all other accounting are the serving process's alone.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from decoding.base import ModelDepth
from decoding.logits import Logits
from engine.flat_batch import FlatBatch, Span, build_flat_batch
from engine.kv_store import KVStore
from engine.paged_cache import PagedCache
from engine.plan import Plan
from engine.torch_runner import TorchRunner

if TYPE_CHECKING:
    import numpy as np

    Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]  # pickled faster than tensors

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOrder:
    """A flat batch and the copies before it, without the store, which each process has its own."""

    token_ids: "Integers"
    positions: "Integers"
    slots: "Integers"
    logits_at: "Integers"
    spans: "tuple[tuple[Integers, Integers, Integers], ...]"  # as the fields of `Span`
    copies: list[tuple[int, int]]

    @classmethod
    def of(cls, batch: FlatBatch, copies: list[tuple[int, int]]) -> "StepOrder":
        """Of a batch that lies in the memory of the CPU."""
        return cls(
            token_ids=batch.token_ids.numpy(),
            positions=batch.positions.numpy(),
            slots=batch.slots.numpy(),
            logits_at=batch.logits_at.numpy(),
            spans=tuple(
                (span.at.numpy(), span.positions.numpy(), span.context.numpy())
                for span in batch.spans
            ),
            copies=copies,
        )

    def batch(self, store: KVStore, device: torch.device) -> FlatBatch:
        """The batch over a process's own store."""

        def put(integers: "Integers") -> Tensor:
            return torch.from_numpy(integers).to(device)

        return FlatBatch(
            token_ids=put(self.token_ids),
            positions=put(self.positions),
            slots=put(self.slots),
            logits_at=put(self.logits_at),
            spans=tuple(
                Span(put(at), put(positions), put(context)) for at, positions, context in self.spans
            ),
            store=store,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOrder:
    """What comes out of inner layers goes through the head, which is split as well."""

    states: Tensor  # [rows, width]


Order = StepOrder | HeadOrder


class ShardedRunner:
    """A `Runner` whose model is spread over processes. Used on the engine thread only, once loaded.

    A step that one process does not finish leaves the others in the middle of it, so the first
    failure is the last step: `give_up` is told, and every later step is refused.
    """

    def __init__(
        self,
        runner: TorchRunner,
        *,
        tell: Callable[[bytes], None],
        give_up: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._tell = tell  # hands an order to every other process
        self._give_up = give_up

    @property
    def cache(self) -> PagedCache:
        """Accounting of the paged cache, which is the same in all processes."""
        return self._runner.cache

    @property
    def context_length(self) -> int:
        """The longest sequence the model can continue, in tokens."""
        return self._runner.context_length

    @property
    def vocab_size(self) -> int:
        """Width of the logits, which are gathered from all shards."""
        return self._runner.vocab_size

    @property
    def has_all_logits(self) -> bool:
        """As one shard."""
        return self._runner.has_all_logits

    @property
    def has_hidden_states(self) -> bool:
        """As one shard: between layers, states are whole in every process."""
        return self._runner.has_hidden_states

    @property
    def depth(self) -> ModelDepth | None:
        """As one shard."""
        return self._runner.depth

    @property
    def is_deterministic(self) -> bool:
        """As one shard."""
        return self._runner.is_deterministic

    @property
    def device_memory_bytes(self) -> int:
        """Memory allocated on the device of the serving process; the others' take as much."""
        return self._runner.device_memory_bytes

    def forward(self, plan: Plan) -> Logits:
        """Logits of the rows that want them; every process computes its part."""
        store = self._runner.store
        laid_out = build_flat_batch(plan, self.cache, store, CPU)
        order = StepOrder.of(laid_out, self.cache.take_copies())
        with self._together(order):
            logits = self._runner.compute(
                order.batch(store, self._runner.device), order.copies, plan
            )
        if logits.early is None:
            return logits
        return replace(logits, early=replace(logits.early, head=self._say))

    def _say(self, states: Tensor) -> Logits:
        with self._together(HeadOrder(states=states.cpu())):
            return self._runner.say(states)

    @contextmanager
    def _together(self, order: Order) -> Iterator[None]:
        is_done = False
        try:
            self._tell(pickle.dumps(order, pickle.HIGHEST_PROTOCOL))
            yield
            is_done = True
        finally:
            if not is_done:
                self._give_up()


def follow(runner: TorchRunner, orders: Iterable[bytes]) -> None:
    """Compute what the serving process says, until it says no more; answers go nowhere."""
    for message in orders:
        order: Order = pickle.loads(message)
        match order:
            case StepOrder():
                runner.compute(order.batch(runner.store, runner.device), order.copies)
            case HeadOrder():
                runner.say(order.states)
