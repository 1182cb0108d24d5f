"""One activation scale a tensor, found at run time: ONNX Runtime's own `int8-dynamic` scheme.

Called by `onnx_export`. The fastest in large batches and the least exact: the scale is that of the
largest value among all rows, so a row's result depends on its neighbours.
"""

import warnings
from pathlib import Path

from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import GRAPH_FILE


def quantize_int8_dynamic(graph: OnnxGraph, scratch: Path) -> OnnxGraph:
    """The graph with its matrices quantised by ONNX Runtime, through files in `scratch`."""
    folders = scratch / "dynamic-from", scratch / "dynamic-to"
    for folder in folders:
        folder.mkdir()
    graph.save(folders[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(
            folders[0] / GRAPH_FILE,
            folders[1] / GRAPH_FILE,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},  # of what it cannot infer
        )
    return OnnxGraph.load(folders[1])
