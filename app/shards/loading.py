"""Loads a model with as many processes as `--tensor-parallel-size` says, this being the first.

Called by `app/runtimes/torch_model.py`. The whole model is run once on the CPU, if the memory holds
it, so that what the shards say together can be compared with it; then every process reads its own
shard.
"""

import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from app.environment import keep_collectives_local
from app.process.progress import ProgressCallback
from app.settings import Settings
from app.shards.orders import LoadOrder, OpenOrder, Stage
from app.shards.processes import ShardProcesses
from engine.config import EngineConfig
from engine.errors import UnsupportedModel
from engine.self_test import SelfTest, usable_context
from engine.shard_group import ShardPlace, join_group, least_of_all
from engine.shard_runner import ShardedRunner
from engine.torch_runner import Sharing, TorchRunner, set_num_threads
from machine.memory import available_memory_bytes
from optimize.description import context_length
from optimize.loading import load_model
from optimize.model_folder import find_weights
from optimize.placement import Placement, check_devices
from optimize.prepare import PreparedModel, prepare_model
from optimize.sharding import check_can_shard

REFERENCE_SHARE = 0.7  # of free memory that the whole model may take for the comparison
# What torch waits beyond a stall, after which the service ends by itself: NCCL would abort it.
GIVE_UP_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedModel:
    """A model whose shards are loaded, each in its process."""

    prepared: PreparedModel
    processes: ShardProcesses
    open: Callable[[EngineConfig], ShardedRunner]


def prepare_sharded(settings: Settings, progress: ProgressCallback) -> ShardedModel:
    """Start the processes and have every shard loaded.

    Raises:
        ModelError: the model cannot be prepared, or not be split so.
        EngineError: a process failed.
    """
    size = settings.tensor_parallel_size
    check_devices(settings.device, size)
    keep_collectives_local()
    processes = ShardProcesses.start(size - 1)
    with _closing_on_failure(processes):
        shards = _Loading(settings, processes, progress)
        prepared = prepare_model(
            settings.model_spec,
            progress=progress,
            num_shards=size,
            before_loading=shards.begin,
        )
        processes.wait_for(Stage.LOADED)
    return ShardedModel(
        prepared=prepared,
        processes=processes,
        open=partial(_open, prepared, processes, shards, size),
    )


class _Loading:
    """What happens between the model's files being there and this process reading its shard."""

    def __init__(
        self, settings: Settings, processes: ShardProcesses, progress: ProgressCallback
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._progress = progress
        self.expected: SelfTest | None = None

    def begin(
        self, name: str, folder: Path, placement: Placement, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Check, run the whole model, and have all processes meet."""
        settings, size = self._settings, self._settings.tensor_parallel_size
        check_can_shard(name, folder, size, trust_remote_code=settings.trust_remote_code)
        self._progress("checking the model", 0.0)
        self.expected = _whole_answers(name, folder, placement, tokenizer, settings)
        self._progress("loading", 0.0)
        place = ShardPlace(
            rank=0,
            size=size,
            meeting_file=self._processes.meeting_file,
            device=placement.device,
            timeout_seconds=settings.stall_seconds + GIVE_UP_SECONDS,
        )
        num_threads = max(1, settings.threads // size)
        for rank in range(1, size):
            order = LoadOrder(
                place=replace(place, rank=rank, device=placement.of_rank(rank).device),
                folder=folder,
                dtype=placement.dtype,
                trust_remote_code=settings.trust_remote_code,
                num_threads=num_threads,
            )
            self._processes.tell_one(rank, pickle.dumps(order))
        set_num_threads(num_threads)
        self._processes.wait_for(Stage.MEETING)
        join_group(place)


def _whole_answers(
    name: str,
    folder: Path,
    placement: Placement,
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
) -> SelfTest | None:
    """What the whole model says on the CPU to the prompts of the self-test."""
    num_bytes = find_weights(folder).num_bytes(placement.bytes_per_value)
    if num_bytes > available_memory_bytes() * REFERENCE_SHARE:
        logger.warning(
            "%s does not fit into this machine's memory as a whole: "
            "its shards are compared with each other only",
            name,
        )
        return None
    whole = load_model(
        folder, replace(placement, device="cpu"), trust_remote_code=settings.trust_remote_code
    )
    longest = context_length(whole.config, tokenizer, name)
    return SelfTest.of(whole, usable_context(whole, longest))


def _open(
    prepared: PreparedModel,
    processes: ShardProcesses,
    shards: _Loading,
    size: int,
    config: EngineConfig,
) -> ShardedRunner:
    """Check the shards against the whole model, and give every process its part of the cache."""
    config = replace(config, num_threads=max(1, (config.num_threads or size) // size))
    if prepared.device == "cpu" and config.kv_cache_bytes is None:  # one memory for all
        config = replace(config, kv_cache_share=config.kv_cache_share / size)
    order = OpenOrder(
        config=config, context_length=prepared.context_length, expected=shards.expected
    )
    agree = partial(least_of_all, device=prepared.device)
    with _closing_on_failure(processes):
        processes.tell(pickle.dumps(order))
        runner = TorchRunner.load(
            prepared.module,
            config,
            context_length=prepared.context_length,
            sharing=Sharing(agree=agree, expected=shards.expected),
        )
        processes.wait_for(Stage.OPEN)
    return ShardedRunner(runner, tell=processes.tell, give_up=processes.give_up)


@contextmanager
def _closing_on_failure(processes: ShardProcesses) -> Iterator[None]:
    """End the processes if loading fails; what torch raises is said in our own words."""
    try:
        yield
    except RuntimeError as error:
        # A model that cannot be split, or a process that is gone, which says why.
        reason = processes.reason()
        processes.close()
        raise UnsupportedModel(
            f"the model cannot be loaded in several processes: {error} ({reason})"
        ) from error
    except BaseException:
        processes.close()
        raise
