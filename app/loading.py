"""From the settings to a model on its device with an engine around it: chooses the runtime.

Called by the lifespan's loading thread. On a CPU the model runs on ONNX Runtime where it can be
exported, else on torch, with a line in the log that says why; on CUDA it runs on torch. A draft
model is loaded the same way; both are at hand before either is given memory for its cache.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from app.draft_pairing import check_can_verify, check_vocabularies
from app.process.progress import ProgressCallback
from app.runtime_choice import check_runtime, must_be_onnx, why_torch
from app.runtimes.onnx_model import prepare_onnx_model
from app.runtimes.program_model import prepare_program_model
from app.runtimes.runnable_model import OpenedRunner, RunnableModel
from app.runtimes.torch_model import prepare_sharded_model, prepare_torch_model
from app.settings import Settings
from app.state import ServedModel
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import EngineError
from optimize.check import CheckedProgram, check_model
from optimize.errors import CacheUnusable, NotEnoughMemory, OnnxUnsupported

if TYPE_CHECKING:  # it imports torch
    from app.shards.processes import ShardProcesses

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """What the loading thread hands over."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    served: ServedModel
    eos_token_ids: frozenset[int]
    shards: "ShardProcesses | None" = None  # the other processes that compute it

    def close(self) -> None:
        """End the other processes, if there are some; the engine is of no use then."""
        if self.shards is not None:
            self.shards.close()


LoadModel = Callable[[Settings, ProgressCallback], LoadedModel]
"""What loads the model of some settings: `load_model`, or what a benchmark puts in its place."""


def load_model(settings: Settings, progress: ProgressCallback) -> LoadedModel:
    """Prepare, load and check the models that the settings describe. Takes seconds.

    Raises:
        ModelError: one cannot be prepared, or they do not go together.
        EngineError: one cannot be run.
    """
    model = _prepare(settings, progress)
    if settings.draft_settings is None:
        model, opened = _open(model, settings, settings.engine_config, progress)
        return _loaded(model, opened)
    return _load_with_draft(model, settings, settings.draft_settings, progress)


def _load_with_draft(
    model: RunnableModel, settings: Settings, draft_settings: Settings, progress: ProgressCallback
) -> LoadedModel:
    """Both models' caches share the memory so that they hold as many tokens."""
    draft = _prepare(draft_settings, progress)
    check_vocabularies(model.tokenizer, draft.tokenizer, draft_name=draft.served.name)
    size, draft_size = model.cache_bytes_per_token(), draft.cache_bytes_per_token()
    config = settings.engine_config
    configs = [
        replace(config, kv_cache_share=each / (size + draft_size)) for each in (size, draft_size)
    ]
    # The served model comes last: the number of torch's threads is as its runner wants it.
    draft, opened_draft = _open(draft, draft_settings, configs[1], progress)
    model, opened = _open(model, settings, configs[0], progress)
    check_can_verify(opened.runner, model.served.name)
    logger.info("%s guesses ahead, run by %s", draft.served.name, draft.served.runtime)
    return _loaded(model, opened, draft, opened_draft)


def _loaded(
    model: RunnableModel,
    opened: OpenedRunner,
    draft: RunnableModel | None = None,
    opened_draft: OpenedRunner | None = None,
) -> LoadedModel:
    return LoadedModel(
        engine=Engine(
            opened.runner,
            opened.config,
            draft=None if opened_draft is None else opened_draft.runner,
        ),
        tokenizer=model.tokenizer,
        served=replace(
            model.served,
            operators=opened.operators,
            draft_model=None if draft is None else draft.served.name,
        ),
        eos_token_ids=model.eos_token_ids,
        shards=model.shards,
    )


def _prepare(settings: Settings, progress: ProgressCallback) -> RunnableModel:
    checked = check_model(settings.model_spec)
    check_runtime(settings, checked)
    if isinstance(checked, CheckedProgram):
        return prepare_program_model(checked)
    reason = why_torch(settings, checked)
    if reason is None:
        may_be_torch = not must_be_onnx(settings, checked)
        try:
            return replace(prepare_onnx_model(settings, progress), may_be_torch=may_be_torch)
        except (OnnxUnsupported, NotEnoughMemory, CacheUnusable) as error:
            if not may_be_torch:
                raise
            reason = str(error)
    if settings.tensor_parallel_size > 1:
        return prepare_sharded_model(settings, progress)
    return prepare_torch_model(settings, progress, reason)


def _open(
    model: RunnableModel, settings: Settings, config: EngineConfig, progress: ProgressCallback
) -> tuple[RunnableModel, OpenedRunner]:
    """A model's runner, and the model as it is served then."""
    try:
        return model, model.open(config)
    except EngineError as error:
        if not model.may_be_torch:
            raise
        model = prepare_torch_model(settings, progress, str(error))
        return model, model.open(config)
