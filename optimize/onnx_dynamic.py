"""One activation scale a tensor, found at run time: ONNX Runtime's own `int8-dynamic` scheme.

Called by `onnx_schemes`. The fastest in large batches and the least exact: the scale is that of the
largest value among all rows, so a row's result depends on its neighbours.
"""

from pathlib import Path

from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from optimize.onnx_graph import OnnxGraph
from optimize.onnx_quantizer import MATRICES, quantize_through_files


def quantize_int8_dynamic(graph: OnnxGraph, scratch: Path) -> OnnxGraph:
    """The graph with its matrices quantised by ONNX Runtime, through files in `scratch`."""

    def quantize(source: Path, target: Path) -> None:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=MATRICES,
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # else products overflow on processors without VNNI
            use_external_data_format=True,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},  # of what it cannot infer
        )

    return quantize_through_files(graph, scratch, quantize)
