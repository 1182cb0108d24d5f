"""Computes what follows the last attention layer for each row's last token only. For `onnx_export`.

A step needs the logits of one position a row, whatever the length of its prompt; the builder's
graph gives them for all. Also stores the embedding in the shape in which it is read, where the
builder would have it transposed out of the matrix that gives the logits.
"""

import numpy as np
from onnx import NodeProto, helper

from optimize.onnx_graph import OnnxGraph
from optimize.onnx_structure import attention_nodes

LOGITS = "logits"
LAST_POSITION = "last_position"


def keep_last_position(graph: OnnxGraph, *, vocab_size: int) -> None:
    """Make the logits [rows, 1, vocabulary], of the last position of each row."""
    tail = _tail(graph)
    inside = {output for node in tail for output in node.output}
    slices: dict[str, NodeProto] = {}
    graph.set_weight(LAST_POSITION, np.array([-1], np.int64))
    for node in tail:
        for place, name in enumerate(node.input):
            if name in inside or not _has_positions(graph, name):
                continue
            node.input[place] = f"{name}/last"
            slices.setdefault(
                name, helper.make_node("Gather", [name, LAST_POSITION], [f"{name}/last"], axis=1)
            )
    graph.insert_before(tail[0], slices.values())
    graph.set_output_shape(LOGITS, ("batch_size", 1, vocab_size))


def store_embedding(graph: OnnxGraph) -> None:
    """Store a transposed matrix that tokens are looked up in as a matrix of its own."""
    for transpose in [node for node in graph.nodes if node.op_type == "Transpose"]:
        readers = graph.consumers(transpose.output[0])
        if graph.is_weight(transpose.input[0]) and all(r.op_type == "Gather" for r in readers):
            graph.set_weight(transpose.output[0], graph.weight(transpose.input[0]).T)
            graph.replace_nodes({id(transpose): ()})


def _tail(graph: OnnxGraph) -> list[NodeProto]:
    """The nodes that depend on what the last attention layer puts out, in order."""
    reached = {attention_nodes(graph)[-1].output[0]}
    tail = []
    for node in graph.nodes:
        if reached.intersection(node.input):
            tail.append(node)
            reached.update(output for output in node.output if output)
    return tail


def _has_positions(graph: OnnxGraph, name: str) -> bool:
    """Whether a value comes from tokens, not from weights alone as constants do."""
    producer = graph.producer(name) if name and not graph.is_weight(name) else None
    return producer is not None and not all(map(graph.is_weight, filter(None, producer.input)))
