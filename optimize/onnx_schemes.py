"""What each weight scheme does to a float decoder graph. Called by `onnx_export`.

A table of the schemes and one function for each, which hands the graph to the module that knows
how. The graph is rewritten in place where that can be; use the one that is returned.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from optimize.errors import OnnxUnsupported
from optimize.onnx_blockwise import quantize_int4, quantize_int8
from optimize.onnx_calibration import measure_channels
from optimize.onnx_dynamic import quantize_int8_dynamic
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import OnnxManifest
from optimize.onnx_static import quantize_int8_static
from optimize.onnx_structure import Site, attention_shape
from optimize.onnx_w8a8 import is_integer_product_exact, quantize_w8a8
from optimize.report import Progress, stage
from optimize.smoothing import rotate_head, smooth
from optimize.weight_scheme import WeightScheme

_CALIBRATING = "calibrating (only once)"
_QUANTIZING = "quantizing (only once)"


@dataclass(frozen=True, slots=True)
class FloatDecoder:
    """A float graph, found to be right, and what making another of it needs."""

    folder: Path  # holds the graph's files and may take more
    graph: OnnxGraph
    sites: Sequence[Site]
    manifest: OnnxManifest
    chunks: Sequence[Sequence[int]]  # token ids to calibrate with; none if the scheme does not


def apply_scheme(decoder: FloatDecoder, progress: Progress) -> OnnxGraph:
    """The decoder with its weights kept as its manifest's scheme says.

    Raises:
        OnnxUnsupported: this machine cannot compute the scheme as it is meant.
    """
    return _SCHEMES[decoder.manifest.scheme](decoder, progress)


def _keep_float(decoder: FloatDecoder, _progress: Progress) -> OnnxGraph:
    return decoder.graph


def _to_w8a8(decoder: FloatDecoder, progress: Progress) -> OnnxGraph:
    if not is_integer_product_exact():
        raise OnnxUnsupported(
            "ONNX Runtime's 8-bit product overflows on this processor. Export int8, or "
            "serve it with torch."
        )
    graph, sites = decoder.graph, decoder.sites
    channels = measure_channels(
        decoder.folder, decoder.manifest, sites, decoder.chunks, stage(progress, _CALIBRATING)
    )
    report = stage(progress, _QUANTIZING)
    report(0.0)
    smooth(graph, sites, channels, attention_shape(graph))
    rotate_head(graph, sites[-1])
    quantize_w8a8(graph, sites)
    report(1.0)
    return graph


def _to_int8(decoder: FloatDecoder, progress: Progress) -> OnnxGraph:
    progress(_QUANTIZING, 0.0)
    quantize_int8(decoder.graph, decoder.sites)
    return decoder.graph


def _to_int4(decoder: FloatDecoder, progress: Progress) -> OnnxGraph:
    progress(_QUANTIZING, 0.0)
    quantize_int4(decoder.graph, decoder.sites)
    return decoder.graph


def _to_int8_dynamic(decoder: FloatDecoder, progress: Progress) -> OnnxGraph:
    progress(_QUANTIZING, 0.0)
    return quantize_int8_dynamic(decoder.graph, decoder.folder)


def _to_int8_static(decoder: FloatDecoder, progress: Progress) -> OnnxGraph:
    report = stage(progress, _CALIBRATING)
    report(0.0)
    return quantize_int8_static(
        decoder.graph, decoder.folder, decoder.manifest, decoder.chunks, report
    )


_SCHEMES: Mapping[WeightScheme, Callable[[FloatDecoder, Progress], OnnxGraph]] = MappingProxyType(
    {
        WeightScheme.FP32: _keep_float,
        WeightScheme.W8A8: _to_w8a8,
        WeightScheme.INT8: _to_int8,
        WeightScheme.INT4: _to_int4,
        WeightScheme.INT8_DYNAMIC: _to_int8_dynamic,
        WeightScheme.INT8_STATIC: _to_int8_static,
    }
)
