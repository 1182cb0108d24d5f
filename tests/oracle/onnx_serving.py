"""Engines over tiny models exported for ONNX Runtime, on its own operators and on ours."""

from dataclasses import replace
from pathlib import Path

from engine.config import EngineConfig
from engine.decoder_shape import DecoderShape
from engine.engine import Engine
from engine.native_runner import BLOCK_TOKENS, NativeRunner
from engine.onnx_runner import OnnxRunner
from optimize.onnx_calibration import CalibrationText
from optimize.onnx_export import ExportOrder, export_onnx
from optimize.onnx_manifest import GRAPH_FILE, NATIVE_GRAPH_FILE, read_manifest
from optimize.weight_scheme import WeightScheme
from tests.app.tiny_tokenizers import train_byte_level
from tests.oracle.architectures import Architecture, build_model


def export_architecture(architecture: Architecture, folder: Path, target: Path) -> None:
    """Export a tiny model in float32.

    Raises:
        OnnxUnsupported: it cannot be served from a graph.
    """
    build_model(architecture).save_pretrained(folder)
    train_byte_level().save_pretrained(folder)
    order = ExportOrder(
        folder=folder,
        name=architecture.name,
        source_revision="oracle",
        scheme=WeightScheme.FP32,
        calibration=CalibrationText("not used"),
    )
    export_onnx(order, target, progress=lambda _stage, _fraction: None)


def build_onnx_engine(folder: Path, config: EngineConfig) -> Engine:
    """An engine on ONNX Runtime's own operators."""
    vocab_size = read_manifest(folder).vocab_size
    shape = _shape(folder)
    return Engine(
        OnnxRunner.load(folder / GRAPH_FILE, shape, config, vocab_size=vocab_size), config
    )


def build_native_engine(folder: Path, library: Path, config: EngineConfig) -> Engine:
    """An engine on our operators."""
    config = replace(config, block_size=BLOCK_TOKENS)
    runner = NativeRunner.load(
        folder / NATIVE_GRAPH_FILE,
        library,
        _shape(folder),
        config,
        vocab_size=read_manifest(folder).vocab_size,
    )
    return Engine(runner, config)


def _shape(folder: Path) -> DecoderShape:
    manifest = read_manifest(folder)
    return DecoderShape(
        num_layers=manifest.num_layers,
        num_kv_heads=manifest.num_kv_heads,
        head_dim=manifest.head_dim,
        context_length=manifest.context_length,
        has_tied_embeddings=manifest.has_tied_embeddings,
    )
