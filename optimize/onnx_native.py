"""Writes a decoder graph once more, with operators of our own where a step spends its time.

Called by `onnx_export` when a graph is finished. The operators (`engine/native/operators.cpp`) are
compiled on the machine that serves, which may have no compiler, so both graphs are kept, over the
same weights. The native one takes a flat batch: tokens of many sequences, of any number each, in
one row, and one cache of blocks that all layers share. Every operator that it may hold treats each
token by itself, so what is computed beside a token never changes its bits.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from optimize.attention_shape import AttentionShape
from optimize.errors import OnnxUnsupported
from optimize.onnx_early_exits import (
    early_inputs,
    keep_layer_inputs,
    model_width,
    put_rows_through_head,
)
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_last_position import LAST_POSITION, LOGITS
from optimize.onnx_manifest import NATIVE_GRAPH_FILE
from optimize.onnx_session import Floats
from optimize.onnx_structure import attention_nodes

DOMAIN = "beamline"
ATTENTION = "PagedAttention"
SUMMARY = "summary"  # of each row of logits: the log of its summed exponentials, the best's place
HIDDEN = "hidden"  # what each row of logits is computed from
_NORMED = "normed"  # the same, divided as the head wants it
HEAD_MULTIPLE = 16  # dimensions of a head come in whole vectors
INPUTS: Mapping[str, tuple[int, tuple[int | str, ...]]] = {
    "input_ids": (TensorProto.INT64, (1, "tokens")),
    "cache": (TensorProto.FLOAT, ("blocks", "block_floats")),  # written in place
    "block_tables": (TensorProto.INT32, ("rows", "table_width")),
    "row_starts": (TensorProto.INT32, ("rows_and_one",)),  # of each row's tokens in the flat batch
    "row_lengths": (TensorProto.INT32, ("rows",)),  # tokens of each sequence, these included
    "logits_at": (TensorProto.INT64, ("logits",)),  # places in the flat batch
}
_STANDARD_INPUTS = 9  # of attention; what comes after them are refinements
_TABLES = slice(7, 9)  # of them, the cosines and sines of positions
_ATTRIBUTES = ("num_heads", "kv_num_heads", "scale", "do_rotary", "rotary_interleaved",
               "local_window_size")  # fmt: skip
_GATES = {"QuantizedLinear": "QuantizedGate", "FloatLinear": "FloatGate"}
_TOKEN_BY_TOKEN = {
    *(ATTENTION, "QuantizedLinear", "QuantizedGate", "FloatLinear", "FloatGate"),
    *("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"),
    *("Sigmoid", "TanhGelu", "Add", "Mul", "Gather", "Constant", "Reshape", "Split"),
    *("RowSummary", "Concat"),  # the latter of rows
}
_NORMALISATIONS = ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")


def write_native_graph(
    folder: Path, shape: AttentionShape, *, head_factors: Floats | None = None
) -> bool:
    """Write the native twin of the graph in `folder`; False if the model has no such form.

    By `head_factors` [width] the last normalisation divides for the sake of the head's matrix.
    """
    graph = OnnxGraph.load(folder)
    layers = attention_nodes(graph)
    if shape.head_dim % HEAD_MULTIPLE or not all(map(_is_plain, layers)):
        return False
    graph.replace_nodes(
        {id(node): [_attention(node, layer, shape)] for layer, node in enumerate(layers)}
    )
    _fuse_products(graph)
    _fuse_gates(graph)
    _replace_functions(graph)
    for node in graph.nodes:
        node.input[:] = ["logits_at" if name == LAST_POSITION else name for name in node.input]
    graph.nodes.append(helper.make_node("RowSummary", [LOGITS], [SUMMARY], domain=DOMAIN))
    graph.add_output(SUMMARY)
    _name_normed_states(graph)
    try:
        keep_layer_inputs(graph, ATTENTION)
        put_rows_through_head(graph, hidden=_NORMED, logits=LOGITS, factors=head_factors)
    except OnnxUnsupported:
        return False
    _put_out_hidden_states(graph, head_factors)
    inputs = {**INPUTS, **early_inputs(model_width(graph, _NORMED))}
    graph.set_signature(inputs, (LOGITS, SUMMARY, HIDDEN))
    graph.drop_unused()
    if not all(node.op_type in _TOKEN_BY_TOKEN for node in graph.nodes):
        return False
    graph.set_output_shape(LOGITS, (1, "logits_and_early", "vocabulary"))
    graph.set_output_shape(SUMMARY, (1, "logits_and_early", 2))
    graph.set_output_shape(HIDDEN, (1, "logits", "width"))
    graph.import_domain(DOMAIN)
    graph.save_beside(NATIVE_GRAPH_FILE)
    return True


def _name_normed_states(graph: OnnxGraph) -> None:
    """Give what the last normalisation makes a name."""
    last = [node for node in graph.nodes if node.op_type in _NORMALISATIONS][-1]
    before = last.output[0]
    for node in graph.nodes:
        node.input[:] = [_NORMED if name == before else name for name in node.input]
        node.output[:] = [_NORMED if name == before else name for name in node.output]


def _put_out_hidden_states(graph: OnnxGraph, head_factors: Floats | None) -> None:
    """Make the model's hidden states an output: undivided, whatever the head wants."""
    factors = np.ones(1, np.float32) if head_factors is None else head_factors
    undone = graph.set_weight(f"{HIDDEN}/factors", factors)
    graph.nodes.append(helper.make_node("Mul", [_NORMED, undone], [HIDDEN]))
    graph.add_output(HIDDEN)


def _is_plain(node: NodeProto) -> bool:
    """Whether attention does nothing but turn, score, window and mix."""
    attributes = _attributes_of(node)
    others = {name: value for name, value in attributes.items() if name not in _ATTRIBUTES}
    has_refinements = any(node.input[_STANDARD_INPUTS:]) or any(node.output[3:])
    return not has_refinements and not any(others.values()) and bool(attributes.get("scale"))


def _attention(node: NodeProto, layer: int, shape: AttentionShape) -> NodeProto:
    attributes: dict[str, Any] = {"do_rotary": 0, "rotary_interleaved": 0}
    attributes |= {"local_window_size": -1, "layer": layer, "num_layers": shape.num_layers}
    attributes |= {k: v for k, v in _attributes_of(node).items() if k in _ATTRIBUTES}
    inputs = [*node.input[:3], "cache", "block_tables", "row_starts", "row_lengths"]
    return helper.make_node(
        ATTENTION,
        [*inputs, *node.input[_TABLES]],
        node.output[:1],
        domain=DOMAIN,
        head_size=shape.head_dim,
        **attributes,
    )


def _attributes_of(node: NodeProto) -> dict[str, object]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _fuse_products(graph: OnnxGraph) -> None:
    """One operator for a product with a matrix, its rows quantised in it where they were before."""
    quantized = {n.output[0]: n for n in graph.nodes if n.op_type == "QuantizeLinear"}
    readers = _readers(graph)
    replacements: dict[int, list[NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type == "MatMulIntegerToFloat" and node.input[0] in quantized:
            (scaling,) = readers[node.output[0]]
            inputs = [quantized[node.input[0]].input[0], node.input[1], node.input[3]]
            linear = helper.make_node("QuantizedLinear", inputs, scaling.output, domain=DOMAIN)
            replacements |= {id(node): [linear], id(scaling): []}
        elif node.op_type == "MatMul" and graph.is_weight(node.input[1]):
            linear = helper.make_node("FloatLinear", node.input, node.output, domain=DOMAIN)
            replacements[id(node)] = [linear]
    graph.replace_nodes(replacements)


def _fuse_gates(graph: OnnxGraph) -> None:
    """One operator for silu(x @ gate) * (x @ up), where nothing else reads the parts."""
    makers = {output: node for node in graph.nodes for output in node.output}
    readers = _readers(graph)
    replacements: dict[int, list[NodeProto]] = {}
    for node in graph.nodes:
        parts = _gate_parts(node, makers)
        if parts is None:
            continue
        gate, up, sigmoid, opened = parts
        inside = [gate, up, sigmoid, opened]
        own = {id(part) for part in (*inside, node)}
        if any(id(r) not in own for part in inside for r in readers[part.output[0]]):
            continue
        inputs = [*gate.input, *up.input[1:]]
        kind = _GATES[gate.op_type]
        fused = helper.make_node(kind, inputs, node.output, domain=DOMAIN)
        replacements |= {id(part): [] for part in inside} | {id(node): [fused]}
    graph.replace_nodes(replacements)


def _replace_functions(graph: OnnxGraph) -> None:
    """Our own operators for functions of which the runtime's treat a tensor's end otherwise."""
    replacements: dict[int, list[NodeProto]] = {}
    for node in graph.nodes:
        approximation = _attributes_of(node).get("approximate")
        if node.op_type == "Sigmoid":
            new = helper.make_node("Sigmoid", node.input, node.output, domain=DOMAIN)
            replacements[id(node)] = [new]
        elif node.op_type == "Gelu" and approximation == b"tanh":
            new = helper.make_node("TanhGelu", node.input, node.output, domain=DOMAIN)
            replacements[id(node)] = [new]
    graph.replace_nodes(replacements)


def _gate_parts(
    node: NodeProto, makers: dict[str, NodeProto]
) -> tuple[NodeProto, NodeProto, NodeProto, NodeProto] | None:
    """Gate product, other product, sigmoid, and their product of which `node` is the last."""
    if node.op_type != "Mul":
        return None
    for opened, up in _both_ways(makers.get(name) for name in node.input):
        if opened.op_type != "Mul" or up.op_type not in _GATES:
            continue
        for gate, sigmoid in _both_ways(makers.get(name) for name in opened.input):
            is_gate = gate.op_type == up.op_type and sigmoid.op_type == "Sigmoid"
            if is_gate and sigmoid.input[0] == gate.output[0] and gate.input[0] == up.input[0]:
                return gate, up, sigmoid, opened
    return None


def _both_ways(pair: Iterable[NodeProto | None]) -> list[tuple[NodeProto, NodeProto]]:
    one, other = pair
    if one is None or other is None:
        return []
    return [(one, other), (other, one)]


def _readers(graph: OnnxGraph) -> dict[str, list[NodeProto]]:
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers
