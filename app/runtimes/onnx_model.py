"""A model that was exported for ONNX Runtime: on operators of our own, else on its own ones.

Called by `app/loading.py` for models on a CPU. Our operators are compiled once for each processor
and compared with ONNX Runtime's before they serve a model for the first time; whatever is wrong
with them costs speed and a line in the log, never the start.
"""

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.process.progress import ProgressCallback
from app.runtime_choice import DEFAULT_WEIGHTS
from app.runtimes.runnable_model import OpenedRunner, RunnableModel
from app.settings import Settings
from app.state import ServedModel
from engine.compiled_operators import find_compiled
from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.errors import NativeUnavailable
from engine.native_library import build_native_library, processor_digest
from optimize.onnx_manifest import OnnxManifest
from optimize.onnx_prepare import PreparedOnnx, prepare_onnx

if TYPE_CHECKING:  # it imports a runtime
    from engine.native_runner import NativeRunner

logger = logging.getLogger(__name__)


def prepare_onnx_model(settings: Settings, progress: ProgressCallback) -> RunnableModel:
    """Export the model, or find its export.

    Raises:
        OnnxUnsupported: it cannot be exported.
        ModelError: it cannot be prepared for another reason.
    """
    prepared = prepare_onnx(
        settings.model_spec,
        settings.weights or DEFAULT_WEIGHTS,
        calibration_file=settings.calibration,
        progress=progress,
    )

    def open_runner(config: EngineConfig) -> OpenedRunner:
        native = _open_native(prepared, settings, config, progress)
        return native or _open_onnx(prepared, config)

    return RunnableModel(
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
) -> OpenedRunner | None:
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
    return OpenedRunner(runner, config, operators="native")


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


def _open_onnx(prepared: PreparedOnnx, config: EngineConfig) -> OpenedRunner:
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
    return OpenedRunner(runner, config, operators="onnxruntime")


def _decoder_shape(manifest: OnnxManifest) -> DecoderShape:
    return DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
        has_tied_embeddings=manifest.has_tied_embeddings,
    )
