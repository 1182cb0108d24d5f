"""A transformers folder becomes a folder that ONNX Runtime serves on a CPU.

Reads as its stages: build the float graph, compare it with the model, calibrate, quantise, compare
again, describe. The result holds the graph, its weights, the tokenizer and a manifest, and needs
neither torch nor transformers to be served. This module imports both; `onnx_prepare` does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from optimize.description import context_length, eos_token_ids
from optimize.errors import LoadingFailed, OnnxUnsupported
from optimize.foreign_errors import translated
from optimize.light_tokenizer import keep_tokenizer
from optimize.loading import load_tokenizer
from optimize.onnx_builder import build_float_graph
from optimize.onnx_calibration import CalibrationText, chunks_of
from optimize.onnx_check import (
    FLOAT_TOLERANCE,
    QUANTIZED_TOLERANCE,
    TOLERANCES,
    check_graph,
    run_reference,
)
from optimize.onnx_embedding_scale import set_embedding_scale
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_last_position import keep_last_position, store_embedding
from optimize.onnx_manifest import (
    EXPORTER_VERSION,
    GRAPH_FILE,
    OnnxManifest,
    write_manifest,
)
from optimize.onnx_native import write_native_graph
from optimize.onnx_norm_epsilon import set_norm_epsilon
from optimize.onnx_schemes import FloatDecoder, apply_scheme
from optimize.onnx_session import open_session
from optimize.onnx_structure import attention_shape, find_sites
from optimize.onnx_windows import set_windows, smallest_window
from optimize.report import Progress, stage
from optimize.smoothing import HEAD_FACTORS
from optimize.weight_scheme import WeightScheme

_PROMPT_TOKENS = 70  # of the longest prompt to check with
_CROSSED_WINDOW = 512  # a larger one would take too long to cross
_STATIC_ROTATIONS = {"default", "linear", "llama3", "yarn"}  # the same for a token in any text


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrder:
    """What to export and how."""

    folder: Path  # a transformers folder
    name: str  # what to call the model in messages
    source_revision: str
    scheme: WeightScheme
    calibration: CalibrationText
    trust_remote_code: bool = False


def export_onnx(order: ExportOrder, target: Path, *, progress: Progress) -> OnnxManifest:
    """Write the model as a graph for ONNX Runtime into the empty folder `target`.

    Raises:
        OnnxUnsupported: the builder cannot make its graph, or the graph would give other results.
        InvalidCalibration: the calibration text is too short for this tokenizer.
        LoadingFailed: transformers cannot load the model.
        OSError: the folder cannot be written.
    """
    config = _load_config(order)
    _check_rotation(order.name, config)
    tokenizer = load_tokenizer(order.folder, trust_remote_code=order.trust_remote_code)
    keep_tokenizer(tokenizer, target, probe=order.calibration.text)
    chunks = _chunks(order, tokenizer)
    with TemporaryDirectory(dir=target, prefix=".float-") as scratch:
        graph = _build_float(order, Path(scratch), config, progress)
        manifest = _describe(order, graph, config, tokenizer)
        reference = run_reference(
            order.folder,
            longest=_longest_prompt(config, manifest.context_length),
            trust_remote_code=order.trust_remote_code,
        )
        check_graph(open_session(Path(scratch)), manifest, reference, tolerance=FLOAT_TOLERANCE)
        decoder = FloatDecoder(Path(scratch), graph, find_sites(graph), manifest, chunks)
        graph = apply_scheme(decoder, progress)
        keep_last_position(graph, vocab_size=manifest.vocab_size)
        graph.save(target)
        head_factors = graph.float_weight(HEAD_FACTORS) if graph.is_weight(HEAD_FACTORS) else None
        write_native_graph(target, manifest.attention, head_factors=head_factors)
        progress("checking the exported model", 0.0)
        tolerance = TOLERANCES.get(order.scheme, QUANTIZED_TOLERANCE)
        check_graph(open_session(target), manifest, reference, tolerance=tolerance)
    write_manifest(target, manifest)
    return manifest


def _load_config(order: ExportOrder) -> PreTrainedConfig:
    with translated(lambda reason: LoadingFailed(f"the configuration of {order.name}: {reason}")):
        config = AutoConfig.from_pretrained(
            order.folder, local_files_only=True, trust_remote_code=order.trust_remote_code
        )
        text_config: PreTrainedConfig = config.get_text_config(decoder=True)
    return text_config


def _chunks(order: ExportOrder, tokenizer: PreTrainedTokenizerBase) -> Sequence[Sequence[int]]:
    """The tokens to calibrate with, found before anything long is begun."""
    if not order.scheme.is_calibrated:
        return ()
    return chunks_of(tokenizer.encode(order.calibration.text))


def _build_float(
    order: ExportOrder, scratch: Path, config: PreTrainedConfig, progress: Progress
) -> OnnxGraph:
    """The builder's graph, mended; also as a file in `scratch`."""
    build_float_graph(
        order.folder,
        scratch,
        num_layers=config.num_hidden_layers,
        trust_remote_code=order.trust_remote_code,
        report=stage(progress, "exporting to ONNX (only once)"),
    )
    graph = OnnxGraph.load(scratch)
    set_windows(graph, config)
    set_embedding_scale(graph, config.hidden_size)
    set_norm_epsilon(graph, config)
    graph.save_beside(GRAPH_FILE)
    store_embedding(graph)
    return graph


def _describe(
    order: ExportOrder,
    graph: OnnxGraph,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> OnnxManifest:
    shape = attention_shape(graph)
    has_settings = (order.folder / "generation_config.json").is_file()
    settings = GenerationConfig.from_pretrained(order.folder) if has_settings else None
    return OnnxManifest(
        scheme=order.scheme,
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        vocab_size=config.vocab_size,
        has_tied_embeddings=bool(config.tie_word_embeddings),
        context_length=context_length(config, tokenizer, order.name),
        eos_token_ids=tuple(sorted(eos_token_ids(config, settings, tokenizer))),
        source_revision=order.source_revision,
        calibration=order.calibration.digest if order.scheme.is_calibrated else None,
        exporter_version=EXPORTER_VERSION,
        onnxruntime_version=metadata.version("onnxruntime"),
        builder_version=metadata.version("onnxruntime-genai"),
    )


def _longest_prompt(config: PreTrainedConfig, most_tokens: int) -> int:
    """Enough tokens to check with that windows of a moderate size are crossed."""
    window = smallest_window(config)
    if window is None or window > _CROSSED_WINDOW:
        return min(_PROMPT_TOKENS, most_tokens)
    return min(window + _PROMPT_TOKENS, most_tokens)


def _check_rotation(name: str, config: PreTrainedConfig) -> None:
    """Refuse positions that depend on the length of the text: the graph's tables are fixed."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [part.get("rope_type", "default") for part in (parameters, *parameters.values())
             if isinstance(part, Mapping)]  # fmt: skip
    unknown = sorted({str(kind) for kind in kinds} - _STATIC_ROTATIONS)
    if unknown:
        raise OnnxUnsupported(
            f"{name} scales its rotary positions by the text ({', '.join(unknown)}), which an "
            "exported graph cannot. Serve it with torch."
        )
