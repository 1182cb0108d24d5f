"""States the factor of the embeddings exactly where the builder rounds it. Called by `onnx_export`.

Models that scale their embeddings do so by the square root of their width; the builder writes it
with two decimals, which moves every logit by some thousandths.
"""

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from optimize.onnx_graph import OnnxGraph

_ROUNDING = 0.005  # of two decimals


def set_embedding_scale(graph: OnnxGraph, hidden_size: int) -> None:
    """Replace a rounded square root of `hidden_size` that multiplies looked-up embeddings."""
    exact = hidden_size**0.5
    for node in graph.nodes:
        makers = [graph.producer(name) for name in node.input] if node.op_type == "Mul" else []
        if any(_is_lookup(maker) for maker in makers):
            for constant in filter(None, makers):
                if abs(_scalar(constant) - exact) <= _ROUNDING:
                    value = numpy_helper.from_array(np.array(exact, np.float32))
                    constant.attribute[0].CopyFrom(helper.make_attribute("value", value))


def _is_lookup(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "Gather" and node.input[1] == "input_ids"


def _scalar(node: NodeProto) -> float:
    """A constant's one float; NaN for anything else."""
    if node.op_type != "Constant" or node.attribute[0].name != "value":
        return float("nan")
    tensor = node.attribute[0].t
    is_scalar = tensor.data_type == TensorProto.FLOAT and not any(n != 1 for n in tensor.dims)
    return float(numpy_helper.to_array(tensor).item()) if is_scalar else float("nan")
