"""A module of transformers on torch, in this process or, in shards, in several.

Called by `app/loading.py` on CUDA, where it is asked for, and for what cannot be exported.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from app.process.progress import ProgressCallback
from app.runtimes.runnable_model import OpenedRunner, RunnableModel
from app.settings import Settings
from app.state import ServedModel
from engine.config import EngineConfig

if TYPE_CHECKING:  # they import torch
    from transformers import PreTrainedModel

    from optimize.prepare import PreparedModel

    CompileLayers = Callable[[PreTrainedModel], None]

logger = logging.getLogger(__name__)


def prepare_torch_model(
    settings: Settings, progress: ProgressCallback, reason: str
) -> RunnableModel:
    """Load the module; the log says for what `reason` it is not an export.

    Raises:
        ModelError: it cannot be prepared.
    """
    # They import transformers' models.
    from engine.attention_switch import cache_bytes_per_token  # noqa: PLC0415
    from engine.torch_runner import TorchRunner  # noqa: PLC0415
    from optimize.prepare import prepare_model  # noqa: PLC0415

    prepared = prepare_model(settings.model_spec, progress=progress)
    logger.info("serving %s with torch: %s", prepared.name, reason)

    def open_runner(config: EngineConfig) -> OpenedRunner:
        progress("checking the model", 1.0)
        with _compiling(prepared, settings, progress) as compile_layers:
            runner = TorchRunner.load(
                prepared.module,
                config,
                context_length=prepared.context_length,
                compile_layers=compile_layers,
            )
        return OpenedRunner(runner, config)

    return RunnableModel(
        tokenizer=prepared.tokenizer,
        served=_served_by_torch(prepared),
        eos_token_ids=prepared.eos_token_ids,
        cache_bytes_per_token=partial(cache_bytes_per_token, prepared.module),
        open=open_runner,
    )


def prepare_sharded_model(settings: Settings, progress: ProgressCallback) -> RunnableModel:
    """Load the module's shards, each in its process.

    Raises:
        ModelError: it cannot be prepared, or not be split so.
        EngineError: a process failed.
    """
    from app.shards.loading import prepare_sharded  # noqa: PLC0415  imports a runtime

    sharded = prepare_sharded(settings, progress)
    prepared, size = sharded.prepared, settings.tensor_parallel_size
    logger.info("serving %s with torch in %d processes", prepared.name, size)

    def open_runner(config: EngineConfig) -> OpenedRunner:
        progress("checking the model", 1.0)
        return OpenedRunner(sharded.open(config), config)

    return RunnableModel(
        tokenizer=prepared.tokenizer,
        served=_served_by_torch(prepared, tensor_parallel_size=size),
        eos_token_ids=prepared.eos_token_ids,
        cache_bytes_per_token=_no_draft_beside_shards,
        open=open_runner,
        shards=sharded.processes,
    )


@contextmanager
def _compiling(
    prepared: "PreparedModel", settings: Settings, progress: ProgressCallback
) -> Iterator["CompileLayers | None"]:
    """What compiles the model's layers inside, with an earlier start's code; None if not wanted."""
    if not prepared.is_compiled:
        yield None
        return
    from optimize.torch_compile import (  # noqa: PLC0415  imports the compiler
        compile_layers,
        compiled_file,
        load_compiled,
        save_compiled,
    )

    file = compiled_file(settings.cache_folder, prepared.revision, prepared.device)
    progress("compiling layers" if file.is_file() else "compiling layers (only once)", 0.0)
    load_compiled(file)
    yield compile_layers
    save_compiled(file)


def _served_by_torch(prepared: "PreparedModel", *, tensor_parallel_size: int = 1) -> ServedModel:
    return ServedModel(
        name=prepared.name,
        revision=prepared.revision,
        runtime="torch",
        device=prepared.device,
        dtype=prepared.dtype,
        weights=prepared.weights,
        tensor_parallel_size=tensor_parallel_size,
    )


def _no_draft_beside_shards() -> int:
    raise AssertionError("settings with a draft model and several processes are refused")
