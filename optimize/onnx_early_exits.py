"""Lets a native graph tell what the model would say after fewer layers, for steps that want it.

Called by `onnx_native`. Attention, which every layer has, keeps on its way what its layer was given
(an operator more would cost every step a call a layer); and whatever rows come in beside those of
the step go through the head as if they came out of the last layer. A step that wants nothing of it
brings no places to keep and no rows.
"""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto, helper

from optimize.errors import OnnxUnsupported
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_session import Floats
from optimize.onnx_structure import NORMS

KEPT_AT = "kept_at"  # places in the flat batch
INNER_STATES = "inner_states"  # what each layer is given there: written in place
EARLY_STATES = "early_states"  # of earlier layers, to be put through the head
_HEAD_INPUT = "head_input"
_FACTORS = "early_factors"
_LINEAR = ("QuantizedLinear", "FloatLinear")


def early_inputs(width: int) -> Mapping[str, tuple[int, tuple[int | str, ...]]]:
    """The graph's inputs for it, by name with type and shape."""
    return {
        KEPT_AT: (TensorProto.INT32, ("kept",)),
        INNER_STATES: (TensorProto.FLOAT, ("layers", "kept", width)),
        EARLY_STATES: (TensorProto.FLOAT, (1, "early", width)),
    }


def model_width(graph: OnnxGraph, hidden: str) -> int:
    """How wide the states between layers are; `hidden` is what the last normalisation gives."""
    norm = graph.producer(hidden)
    assert norm is not None, "the normalisation gives it"
    return len(graph.weight(norm.input[NORMS[norm.op_type]]))


def keep_layer_inputs(graph: OnnxGraph, attention: str) -> None:
    """Give each node of the kind `attention` what its layer was given, and where to keep it."""
    for node in [node for node in graph.nodes if node.op_type == attention]:
        node.input.extend([_layer_input(graph, node), KEPT_AT, INNER_STATES])


def put_rows_through_head(
    graph: OnnxGraph, *, hidden: str, logits: str, factors: Floats | None
) -> None:
    """Put `EARLY_STATES` behind `hidden` on its way to the logits.

    What follows the head's product is undone for them beforehand; so are the `factors` [width] by
    which the last normalisation divides for the head's sake.
    """
    undone = np.ones(1, np.float32) if factors is None else 1 / factors
    undone = (undone / _scale_of(graph, logits)).astype(np.float32)
    early, nodes = EARLY_STATES, []
    if (undone != 1).any():
        early = f"{EARLY_STATES}/divided"
        nodes = [
            helper.make_node("Mul", [EARLY_STATES, graph.set_weight(_FACTORS, undone)], [early])
        ]
    readers = graph.consumers(hidden)
    nodes.append(helper.make_node("Concat", [hidden, early], [_HEAD_INPUT], axis=1))
    graph.insert_before(readers[0], nodes)
    for reader in readers:
        reader.input[:] = [_HEAD_INPUT if name == hidden else name for name in reader.input]


def _layer_input(graph: OnnxGraph, attention: NodeProto) -> str:
    """The state that a layer begins with: what its first normalisation reads, if it has one."""
    product = graph.producer(attention.input[2] or attention.input[0])
    while product is not None and product.op_type not in _LINEAR:
        product = graph.producer(product.input[0])
    if product is None:
        raise OnnxUnsupported("attention does not begin with products.")
    value = str(product.input[0])
    before = graph.producer(value)
    if before is not None and before.op_type == "Mul" and graph.is_weight(before.input[1]):
        value = str(before.input[0])  # smoothing that could not hide in the normalisation
        before = graph.producer(value)
    if before is None or before.op_type not in NORMS or before.output[0] != value:
        return value
    return str(before.input[0]) if NORMS[before.op_type] == 1 else _sum_of(before)


def _sum_of(norm: NodeProto) -> str:
    """What a normalisation that adds first gives besides: the sum."""
    norm.output.extend([""] * (4 - len(norm.output)))
    if not norm.output[3]:
        norm.output[3] = f"{norm.output[0]}/sum"
    total: str = norm.output[3]
    return total


def _scale_of(graph: OnnxGraph, logits: str) -> float:
    """What the head's product is multiplied by to give the logits.

    Raises:
        OnnxUnsupported: something else is done to it.
    """
    scale, node = 1.0, graph.producer(logits)
    while node is not None and node.op_type == "Mul" and graph.is_weight(node.input[1]):
        scale *= float(graph.float_weight(node.input[1]).item())
        node = graph.producer(node.input[0])
    if node is None or node.op_type not in _LINEAR:
        raise OnnxUnsupported("the logits are not simply a product.")
    return scale
