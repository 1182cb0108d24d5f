"""A model that is at hand, whatever will compute it, and its runner once that is open.

Made by the other files here, used by `app/loading.py`, which opens models once all are at hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from app.state import ServedModel
from engine.config import EngineConfig
from engine.runner import Runner

if TYPE_CHECKING:  # it imports torch
    from app.shards.processes import ShardProcesses


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnableModel:
    """A model that is at hand; its runner, whose cache takes memory, is made when all are."""

    tokenizer: PreTrainedTokenizerBase
    served: ServedModel
    eos_token_ids: frozenset[int]
    cache_bytes_per_token: Callable[[], int]
    open: Callable[[EngineConfig], "OpenedRunner"]
    shards: "ShardProcesses | None" = None
    may_be_torch: bool = False  # whether torch may take over what cannot be opened


@dataclass(frozen=True, slots=True)
class OpenedRunner:
    """A runner, and the engine's configuration with what the runner lays down."""

    runner: Runner
    config: EngineConfig
    operators: str = "torch"
