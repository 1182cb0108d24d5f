"""From the settings to a model on its device with an engine around it: chooses the runtime.

Called by the lifespan's loading thread. On a CPU the model runs on ONNX Runtime where it can be
exported, else on torch, with a line in the log that says why; on CUDA it runs on torch. A draft
model is loaded the same way; both are at hand before either is given memory for its cache.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from app.draft_pairing import check_can_verify, check_vocabularies
from app.process.progress import ProgressCallback
from app.runtime_choice import DEFAULT_WEIGHTS, check_runtime, must_be_onnx, why_torch
from app.settings import Settings
from app.state import ServedModel
from engine.compiled_operators import find_compiled
from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.engine import Engine
from engine.errors import EngineError, NativeUnavailable
from engine.native_library import build_native_library, processor_digest
from engine.runner import Runner
from optimize.check import CheckedProgram, check_model
from optimize.errors import CacheUnusable, NotEnoughMemory, OnnxUnsupported
from optimize.onnx_manifest import OnnxManifest
from optimize.onnx_prepare import PreparedOnnx, prepare_onnx
from optimize.program_manifest import read_program_manifest

if TYPE_CHECKING:  # they import torch
    from transformers import PreTrainedModel

    from app.shards.processes import ShardProcesses
    from engine.native_runner import NativeRunner
    from optimize.prepare import PreparedModel

    CompileLayers = Callable[[PreTrainedModel], None]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A model that is at hand; its runner, whose cache takes memory, is made when all are."""

    tokenizer: PreTrainedTokenizerBase
    served: ServedModel
    eos_token_ids: frozenset[int]
    cache_bytes_per_token: Callable[[], int]
    open: Callable[[EngineConfig], "_Opened"]
    shards: "ShardProcesses | None" = None
    may_be_torch: bool = False  # whether torch may take over what cannot be opened


@dataclass(frozen=True, slots=True)
class _Opened:
    """A runner, and the engine's configuration with what the runner lays down."""

    runner: Runner
    config: EngineConfig
    operators: str = "torch"


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
    model: _Prepared, settings: Settings, draft_settings: Settings, progress: ProgressCallback
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
    model: _Prepared,
    opened: _Opened,
    draft: _Prepared | None = None,
    opened_draft: _Opened | None = None,
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


def _prepare(settings: Settings, progress: ProgressCallback) -> _Prepared:
    checked = check_model(settings.model_spec)
    check_runtime(settings, checked)
    if isinstance(checked, CheckedProgram):
        return _prepare_program(checked)
    reason = why_torch(settings, checked)
    if reason is None:
        may_be_torch = not must_be_onnx(settings, checked)
        try:
            return replace(_prepare_onnx(settings, progress), may_be_torch=may_be_torch)
        except (OnnxUnsupported, NotEnoughMemory, CacheUnusable) as error:
            if not may_be_torch:
                raise
            reason = str(error)
    if settings.tensor_parallel_size > 1:
        return _prepare_sharded(settings, progress)
    return _prepare_torch(settings, progress, reason)


def _open(
    model: _Prepared, settings: Settings, config: EngineConfig, progress: ProgressCallback
) -> tuple[_Prepared, _Opened]:
    """A model's runner, and the model as it is served then."""
    try:
        return model, model.open(config)
    except EngineError as error:
        if not model.may_be_torch:
            raise
        model = _prepare_torch(settings, progress, str(error))
        return model, model.open(config)


def _prepare_onnx(settings: Settings, progress: ProgressCallback) -> _Prepared:
    prepared = prepare_onnx(
        settings.model_spec,
        settings.weights or DEFAULT_WEIGHTS,
        calibration_file=settings.calibration,
        progress=progress,
    )

    def open_runner(config: EngineConfig) -> _Opened:
        native = _open_native(prepared, settings, config, progress)
        return native or _open_onnx(prepared, config)

    return _Prepared(
        tokenizer=prepared.tokenizer,
        served=ServedModel(
            name=prepared.name,
            revision=prepared.revision,
            runtime="onnx",
            device="cpu",
            dtype="float32",
            weights=prepared.manifest.scheme.value,
        ),
        eos_token_ids=prepared.eos_token_ids,
        cache_bytes_per_token=lambda: _decoder_shape(prepared.manifest).bytes_per_token,
        open=open_runner,
    )


def _open_native(
    prepared: PreparedOnnx, settings: Settings, config: EngineConfig, progress: ProgressCallback
) -> _Opened | None:
    """A runner on our own operators; None where they or the model's graph for them are missing."""
    from engine.native_runner import BLOCK_TOKENS, NativeRunner  # noqa: PLC0415  imports a runtime

    if prepared.native_graph is None or not settings.native:
        return None
    try:
        library = _find_library(settings, progress)
    except NativeUnavailable as error:
        logger.warning("serving with ONNX Runtime's own operators: %s", error)
        return None
    progress("loading", 0.0)
    config = replace(config, block_size=BLOCK_TOKENS)
    runner = NativeRunner.load(
        prepared.native_graph,
        library,
        _decoder_shape(prepared.manifest),
        config,
        vocab_size=prepared.manifest.vocab_size,
    )
    try:
        _check_once(runner, prepared, library, settings, progress)
    except NativeUnavailable as error:
        logger.warning("serving with ONNX Runtime's own operators: %s", error)
        return None
    return _Opened(runner, config, operators="native")


def _find_library(settings: Settings, progress: ProgressCallback) -> Path:
    """Our operators: those that were made for this start, else compiled here."""
    if settings.operators_folder is not None:
        try:
            return find_compiled(settings.operators_folder)
        except NativeUnavailable as error:
            logger.warning("compiling operators here: %s", error)
    progress("compiling operators (only once)", 0.0)
    return build_native_library(settings.cache_folder / "operators")


def _check_once(
    runner: "NativeRunner",
    prepared: PreparedOnnx,
    library: Path,
    settings: Settings,
    progress: ProgressCallback,
) -> None:
    """Compare with ONNX Runtime's own operators, the first time this library runs this model."""
    from engine.native_check import check_native, trial_config  # noqa: PLC0415  imports a runtime
    from engine.onnx_runner import OnnxRunner  # noqa: PLC0415

    # Whoever compiled it: what a processor computes is seen on this one only.
    name = f"{library.stem}-{processor_digest()}-{prepared.revision[:16]}.checked"
    checked = settings.cache_folder / "operators" / name
    if checked.is_file():
        return
    progress("checking operators (only once)", 0.0)
    shape, vocab_size = _decoder_shape(prepared.manifest), prepared.manifest.vocab_size
    config = trial_config(shape, settings.engine_config)
    check_native(runner, OnnxRunner.load(prepared.graph, shape, config, vocab_size=vocab_size))
    with suppress(OSError):  # on a read-only disk it is checked with every start
        checked.parent.mkdir(parents=True, exist_ok=True)
        checked.touch()


def _open_onnx(prepared: PreparedOnnx, config: EngineConfig) -> _Opened:
    from engine.onnx_runner import OnnxRunner  # noqa: PLC0415  imports a runtime

    shape = _decoder_shape(prepared.manifest)
    vocab_size = prepared.manifest.vocab_size
    runner = OnnxRunner.load(
        prepared.graph,
        shape,
        config,
        vocab_size=vocab_size,
        is_batch_invariant=prepared.manifest.scheme.is_batch_invariant,
    )
    return _Opened(runner, config, operators="onnxruntime")


def _decoder_shape(manifest: OnnxManifest) -> DecoderShape:
    return DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
        has_tied_embeddings=manifest.has_tied_embeddings,
    )


def _prepare_torch(settings: Settings, progress: ProgressCallback, reason: str) -> _Prepared:
    from engine.torch_runner import (  # noqa: PLC0415  imports transformers' models
        TorchRunner,
        cache_bytes_per_token,
    )
    from optimize.prepare import prepare_model  # noqa: PLC0415

    prepared = prepare_model(settings.model_spec, progress=progress)
    logger.info("serving %s with torch: %s", prepared.name, reason)

    def open_runner(config: EngineConfig) -> _Opened:
        progress("checking the model", 1.0)
        with _compiling(prepared, settings, progress) as compile_layers:
            runner = TorchRunner.load(
                prepared.module,
                config,
                context_length=prepared.context_length,
                compile_layers=compile_layers,
            )
        return _Opened(runner, config)

    return _Prepared(
        tokenizer=prepared.tokenizer,
        served=_served_by_torch(prepared),
        eos_token_ids=prepared.eos_token_ids,
        cache_bytes_per_token=partial(cache_bytes_per_token, prepared.module),
        open=open_runner,
    )


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


def _prepare_sharded(settings: Settings, progress: ProgressCallback) -> _Prepared:
    from app.shards.loading import prepare_sharded  # noqa: PLC0415  imports a runtime

    sharded = prepare_sharded(settings, progress)
    prepared, size = sharded.prepared, settings.tensor_parallel_size
    logger.info("serving %s with torch in %d processes", prepared.name, size)

    def open_runner(config: EngineConfig) -> _Opened:
        progress("checking the model", 1.0)
        return _Opened(sharded.open(config), config)

    return _Prepared(
        tokenizer=prepared.tokenizer,
        served=_served_by_torch(prepared, tensor_parallel_size=size),
        eos_token_ids=prepared.eos_token_ids,
        cache_bytes_per_token=_no_draft_beside_shards,
        open=open_runner,
        shards=sharded.processes,
    )


def _no_draft_beside_shards() -> int:
    raise AssertionError("settings with a draft model and several processes are refused")


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


def _prepare_program(checked: CheckedProgram) -> _Prepared:
    from engine.program_runner import ProgramRunner  # noqa: PLC0415  as above
    from optimize.light_tokenizer import load_light_tokenizer  # noqa: PLC0415
    from optimize.torch_program import load_program  # noqa: PLC0415

    manifest = read_program_manifest(checked.folder)
    shape = DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
    )
    program = load_program(checked.folder, manifest)

    def open_runner(config: EngineConfig) -> _Opened:
        return _Opened(
            ProgramRunner(program, shape, config, vocab_size=manifest.vocab_size), config
        )

    return _Prepared(
        tokenizer=load_light_tokenizer(checked.folder),
        served=ServedModel(
            name=checked.name,
            revision=f"{manifest.source_revision}-{manifest.technique.value}",
            runtime="torch",
            device="cpu",
            dtype="float32",
            weights="float32",
        ),
        eos_token_ids=frozenset(manifest.eos_token_ids),
        cache_bytes_per_token=lambda: shape.bytes_per_token,
        open=open_runner,
    )
