"""One activation scale a tensor, found on a calibration text: the `int8-static` scheme.

Called by `onnx_schemes`. The classic technique, by ONNX Runtime's own quantiser: weights by
column, activations between the extremes that calibration saw. An outlier sets the scale of a whole
tensor and what lies beyond the extremes is cut off, so it loses far more than `w8a8`; it is here to
be compared with. The scales are fixed, so rows do not touch each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from optimize.onnx_graph import Array, OnnxGraph
from optimize.onnx_manifest import OnnxManifest
from optimize.onnx_quantizer import MATRICES, quantize_through_files
from optimize.report import Report


def quantize_int8_static(
    graph: OnnxGraph,
    scratch: Path,
    manifest: OnnxManifest,
    chunks: Sequence[Sequence[int]],
    report: Report,
) -> OnnxGraph:
    """The graph with its matrices quantised by ONNX Runtime, through files in `scratch`.

    Args:
        graph: a float decoder with logits for all positions.
        scratch: a folder for files, which the result goes on using.
        manifest: the shape of that graph.
        chunks: token ids to calibrate with, each chunk a text of its own.
        report: told the fraction of chunks done.
    """

    def quantize(source: Path, target: Path) -> None:
        quantize_static(
            source,
            target,
            _Texts(_passes(manifest, chunks, report)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=MATRICES,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # else products overflow on processors without VNNI
            use_external_data_format=True,
            extra_options={
                "DefaultTensorType": TensorProto.FLOAT,  # of what it cannot infer
                "OpTypesToExcludeOutputQuantization": MATRICES,  # would lose more for nothing
            },
        )

    return quantize_through_files(graph, scratch, quantize)


class _Texts(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Passes in the form in which the quantiser asks for them."""

    def __init__(self, passes: Iterator[Mapping[str, Array]]) -> None:
        self._passes = passes

    def get_next(self) -> Mapping[str, Array] | None:
        """The inputs of the next pass; None after the last."""
        return next(self._passes, None)


def _passes(
    manifest: OnnxManifest, chunks: Sequence[Sequence[int]], report: Report
) -> Iterator[Mapping[str, Array]]:
    """The inputs of one pass a chunk, each over an empty past."""
    nothing = np.zeros((1, manifest.num_kv_heads, 0, manifest.head_dim), np.float32)
    past = {
        f"past_key_values.{layer}.{kind}": nothing
        for layer in range(manifest.num_layers)
        for kind in ("key", "value")
    }
    for number, chunk in enumerate(chunks, start=1):
        token_ids = np.array([chunk], np.int64)
        yield {"input_ids": token_ids, "attention_mask": np.ones_like(token_ids), **past}
        report(number / len(chunks))
