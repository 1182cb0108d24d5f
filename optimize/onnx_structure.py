"""Recognises the parts of a decoder graph that rewrites care about, by their structure.

Used by the `onnx_*` rewrites. A *site* is a value together with the matrices it is multiplied with
(gate and up share one), and what it comes from: that decides where a factor on its channels can be
hidden. Names of nodes are never looked at, so an architecture needs no entry here.
"""

from dataclasses import dataclass
from enum import Enum

from onnx import NodeProto, helper

from optimize.attention_shape import AttentionShape
from optimize.errors import OnnxUnsupported
from optimize.onnx_graph import OnnxGraph

NORMS = {"SimplifiedLayerNormalization": 1, "LayerNormalization": 1,
         "SkipSimplifiedLayerNormalization": 2, "SkipLayerNormalization": 2}  # fmt: skip
"""Normalisations and the place of their weight among their inputs; a bias comes after it."""
ATTENTION = "GroupQueryAttention"


class Origin(Enum):
    """What computes the input of a site."""

    NORM = "norm"  # before attention and before the feed-forward network
    ATTENTION = "attention"
    PRODUCT = "product"  # a gated feed-forward network's middle
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Site:
    """A value and the matrices that it, and nothing else, is multiplied with."""

    value: str
    matmuls: tuple[NodeProto, ...]
    origin: Origin
    is_shared: bool  # something else than these matrices reads the value too
    is_head: bool  # its matrix gives the logits


def find_sites(graph: OnnxGraph) -> list[Site]:
    """All values that are multiplied with a stored matrix, in the order of the graph."""
    matmuls: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type == "MatMul" and graph.is_weight(node.input[1]):
            matmuls.setdefault(node.input[0], []).append(node)
    if not matmuls:
        raise OnnxUnsupported("the exported graph has no matrices. Serve it with torch.")
    head = list(matmuls)[-1]
    return [
        Site(
            value=value,
            matmuls=tuple(nodes),
            origin=_origin(graph, value),
            is_shared=len(graph.consumers(value)) != len(nodes),
            is_head=value == head,
        )
        for value, nodes in matmuls.items()
    ]


def attention_shape(graph: OnnxGraph) -> AttentionShape:
    """How many layers and heads the decoder has.

    Raises:
        OnnxUnsupported: it has no grouped-query attention, or layers that differ.
    """
    shapes = [_heads(graph, node) for node in attention_nodes(graph)]
    if not shapes or len(set(shapes)) != 1:
        raise OnnxUnsupported(
            "the exported graph does not have one kind of grouped-query attention. "
            "Serve it with torch."
        )
    return AttentionShape(len(shapes), *shapes[0])


def attention_nodes(graph: OnnxGraph) -> list[NodeProto]:
    """The attention of each layer, in order."""
    return [node for node in graph.nodes if node.op_type == ATTENTION]


def attribute(node: NodeProto, name: str) -> int:
    """An integer attribute of a node."""
    return int(next(helper.get_attribute_value(a) for a in node.attribute if a.name == name))


def _heads(graph: OnnxGraph, node: NodeProto) -> tuple[int, int, int]:
    num_heads = attribute(node, "num_heads")
    (projection,) = graph.consumers(node.output[0])
    width = len(graph.weight(projection.input[1]))
    return num_heads, attribute(node, "kv_num_heads"), width // num_heads


def _origin(graph: OnnxGraph, value: str) -> Origin:
    producer = graph.producer(value)
    kind = producer.op_type if producer is not None else ""
    if kind in NORMS:
        return Origin.NORM
    return {ATTENTION: Origin.ATTENTION, "Mul": Origin.PRODUCT}.get(kind, Origin.OTHER)
