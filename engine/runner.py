"""The protocol of a model runner: the one thing in the engine that touches a model.

`torch_runner.TorchRunner` implements it. A runner owns its KV cache because the layout is its own;
the scheduler accounts in it through `KVCache`.
"""

from typing import Protocol

from decoding.base import ModelDepth
from decoding.logits import Logits
from engine.kv_cache import KVCache
from engine.plan import Plan


class Runner(Protocol):
    """Computes the planned tokens and hands back the logits that are wanted."""

    @property
    def cache(self) -> KVCache:
        """Accounting of the runner's own cache."""

    @property
    def context_length(self) -> int:
        """The longest sequence the model can continue, in tokens."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    @property
    def has_all_logits(self) -> bool:
        """Whether a row may want logits after several of its tokens, the same as one by one."""

    @property
    def has_hidden_states(self) -> bool:
        """Whether it can tell the hidden states that logits are computed from."""

    @property
    def depth(self) -> ModelDepth | None:
        """The model's layers, if it can tell what the model would say after each; else None."""

    @property
    def is_deterministic(self) -> bool:
        """Whether a row gets the same bits whatever runs beside it and however steps are cut."""

    @property
    def device_memory_bytes(self) -> int:
        """Memory allocated on the accelerator; 0 on a CPU."""

    def forward(self, plan: Plan) -> Logits:
        """Logits of the rows that want them, in plan order; the cache's tensors are updated."""
