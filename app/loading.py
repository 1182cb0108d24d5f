"""From the settings to a model on its device with an engine around it: chooses the runtime.

Called by the lifespan's loading thread. On a CPU the model runs on ONNX Runtime where it can be
exported, else on torch, with a line in the log that says why; on CUDA it runs on torch.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedTokenizerBase

from app.process.progress import ProgressCallback
from app.runtime_choice import DEFAULT_WEIGHTS, check_runtime, must_be_onnx, why_torch
from app.settings import Settings
from app.state import ServedModel
from engine.decoder_shape import DecoderShape
from engine.engine import Engine
from engine.errors import EngineError, NativeUnavailable
from engine.native_library import build_native_library
from optimize.check import CheckedProgram, check_model
from optimize.errors import CacheUnusable, NotEnoughMemory, OnnxUnsupported
from optimize.onnx_prepare import PreparedOnnx, prepare_onnx
from optimize.program_manifest import read_program_manifest

if TYPE_CHECKING:  # they import torch
    from transformers import PreTrainedModel

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


LoadModel = Callable[[Settings, ProgressCallback], LoadedModel]
"""What loads the model of some settings: `load_model`, or what a benchmark puts in its place."""


def load_model(settings: Settings, progress: ProgressCallback) -> LoadedModel:
    """Prepare, load and check the model that the settings describe. Takes seconds.

    Raises:
        ModelError: it cannot be prepared.
        EngineError: it cannot be run.
    """
    checked = check_model(settings.model_spec)
    check_runtime(settings, checked)
    if isinstance(checked, CheckedProgram):
        return _load_program(checked, settings)
    reason = why_torch(settings, checked)
    if reason is None:
        try:
            return _load_onnx(settings, progress)
        except (OnnxUnsupported, NotEnoughMemory, CacheUnusable, EngineError) as error:
            if must_be_onnx(settings, checked):
                raise
            reason = str(error)
    logger.info("serving with torch: %s", reason)
    return _load_torch(settings, progress)


def _load_onnx(settings: Settings, progress: ProgressCallback) -> LoadedModel:
    prepared = prepare_onnx(
        settings.model_spec,
        settings.weights or DEFAULT_WEIGHTS,
        calibration_file=settings.calibration,
        progress=progress,
    )
    manifest = prepared.manifest
    return LoadedModel(
        engine=_native_engine(prepared, settings, progress) or _onnx_engine(prepared, settings),
        tokenizer=prepared.tokenizer,
        served=ServedModel(
            name=prepared.name,
            revision=prepared.revision,
            runtime="onnx",
            device="cpu",
            dtype="float32",
            weights=manifest.scheme.value,
        ),
        eos_token_ids=prepared.eos_token_ids,
    )


def _native_engine(
    prepared: PreparedOnnx, settings: Settings, progress: ProgressCallback
) -> Engine | None:
    """An engine on our own operators; None where they or the model's graph for them are missing."""
    from engine.native_runner import BLOCK_TOKENS, NativeRunner  # noqa: PLC0415  imports a runtime

    if prepared.native_graph is None or not settings.native:
        return None
    progress("compiling operators (only once)", 0.0)
    try:
        library = build_native_library(settings.cache_folder / "operators")
    except NativeUnavailable as error:
        logger.warning("serving with ONNX Runtime's own operators: %s", error)
        return None
    progress("loading", 0.0)
    config = replace(settings.engine_config, block_size=BLOCK_TOKENS)
    runner = NativeRunner.load(
        prepared.native_graph,
        library,
        _decoder_shape(prepared),
        config,
        vocab_size=prepared.manifest.vocab_size,
    )
    try:
        _check_once(runner, prepared, library, settings, progress)
    except NativeUnavailable as error:
        logger.warning("serving with ONNX Runtime's own operators: %s", error)
        return None
    return Engine(runner, config)


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

    checked = library.with_name(f"{library.stem}-{prepared.revision[:16]}.checked")
    if checked.is_file():
        return
    progress("checking operators (only once)", 0.0)
    shape, vocab_size = _decoder_shape(prepared), prepared.manifest.vocab_size
    config = trial_config(shape, settings.engine_config)
    check_native(runner, OnnxRunner.load(prepared.graph, shape, config, vocab_size=vocab_size))
    with suppress(OSError):  # on a read-only disk it is checked with every start
        checked.touch()


def _onnx_engine(prepared: PreparedOnnx, settings: Settings) -> Engine:
    from engine.onnx_runner import OnnxRunner  # noqa: PLC0415  imports a runtime

    config = settings.engine_config
    shape = _decoder_shape(prepared)
    vocab_size = prepared.manifest.vocab_size
    return Engine(OnnxRunner.load(prepared.graph, shape, config, vocab_size=vocab_size), config)


def _decoder_shape(prepared: PreparedOnnx) -> DecoderShape:
    manifest = prepared.manifest
    return DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
        has_tied_embeddings=manifest.has_tied_embeddings,
    )


def _load_torch(settings: Settings, progress: ProgressCallback) -> LoadedModel:
    from engine.torch_runner import TorchRunner  # noqa: PLC0415  imports transformers' models
    from optimize.prepare import prepare_model  # noqa: PLC0415

    prepared = prepare_model(settings.model_spec, progress=progress)
    config = settings.engine_config
    progress("checking the model", 1.0)
    with _compiling(prepared, settings, progress) as compile_layers:
        runner = TorchRunner.load(
            prepared.module,
            config,
            context_length=prepared.context_length,
            compile_layers=compile_layers,
        )
    return LoadedModel(
        engine=Engine(runner, config),
        tokenizer=prepared.tokenizer,
        served=ServedModel(
            name=prepared.name,
            revision=prepared.revision,
            runtime="torch",
            device=prepared.device,
            dtype=prepared.dtype,
            weights=prepared.weights,
        ),
        eos_token_ids=prepared.eos_token_ids,
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


def _load_program(checked: CheckedProgram, settings: Settings) -> LoadedModel:
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
    config = settings.engine_config
    program = load_program(checked.folder, manifest)
    runner = ProgramRunner(program, shape, config, vocab_size=manifest.vocab_size)
    return LoadedModel(
        engine=Engine(runner, config),
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
    )
