"""Moves the outliers of activations into the weights, where eight bits hold them. For `onnx_w8a8`.

SmoothQuant (Xiao et al., 2023): x W = (x / s) (s W). Quantising x then errs by about the sum of
s^2 w^2, and quantising W by the sum of x^2 / s^2, with x and w the sizes of a channel; s = sqrt(x
/ w) makes the product of the two least. The size of a weight's channel is its root mean square,
that of an activation's see `onnx_calibration`. The paper balances the maxima instead, which errs
more.

The division costs nothing at run time where it can hide in what computes x: a norm's weight, the
matrix before a gated product, the values of attention. The input of the logits' matrix is rotated
as well (a Hadamard matrix, as in QuaRot, Ashkboos et al., 2024), since its errors go straight
into the probabilities and one small product is nothing beside a vocabulary.

Both leave the float model's results as they were, up to rounding.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import helper

from optimize.attention_shape import AttentionShape
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_session import Floats
from optimize.onnx_structure import NORMS, Origin, Site

HEAD_FACTORS = "head_factors"  # stored where they are hidden before the logits' matrix
_TINY = 1e-6
_MAX_ROTATION = 512  # channels that one block of the rotation mixes


def smooth(
    graph: OnnxGraph,
    sites: Sequence[Site],
    channels: Mapping[str, Floats],
    shape: AttentionShape,
) -> None:
    """Smooth every site of the graph in place; float results stay the same.

    Args:
        graph: a float decoder.
        sites: those to smooth.
        channels: the size of each channel of each site's value, see `onnx_calibration`.
        shape: the heads of its attention, for values that several heads share.
    """
    for site in sites:
        factors = _factors(graph, site, channels[site.value])
        hide = {
            Origin.NORM: _hide_in_norm,
            Origin.PRODUCT: _hide_in_product,
        }.get(site.origin)
        if site.origin is Origin.ATTENTION:
            factors = _shared_by_groups(factors, shape)
            is_hidden = _hide_in_values(graph, site, factors, shape)
        else:
            is_hidden = hide is not None and not site.is_shared and hide(graph, site, factors)
        if not is_hidden:
            _divide(graph, site, factors)
        elif site.is_head:
            graph.set_weight(HEAD_FACTORS, factors)
        for matmul in site.matmuls:
            _scale_weight(graph, matmul.input[1], rows=factors)


def rotate_head(graph: OnnxGraph, head: Site) -> None:
    """Mix the channels of the logits' input with an orthogonal matrix, undone in the weights."""
    (matmul,) = head.matmuls
    weight = graph.float_weight(matmul.input[1])
    size = _rotation_size(len(weight))
    if size == 1:
        return
    rotation = _hadamard(size)
    blocks = weight.reshape(-1, size, weight.shape[1])
    graph.set_weight(matmul.input[1], (rotation @ blocks).reshape(weight.shape))
    value, rotated = head.value, f"{head.value}/rotated"
    graph.set_weight("rotation", rotation)
    graph.set_weight("rotation_blocks", np.array([0, 0, -1, size], np.int64))
    graph.set_weight("rotation_whole", np.array([0, 0, -1], np.int64))
    nodes = [
        helper.make_node("Reshape", [value, "rotation_blocks"], [f"{value}/blocks"]),
        helper.make_node("MatMul", [f"{value}/blocks", "rotation"], [f"{rotated}/blocks"]),
        helper.make_node("Reshape", [f"{rotated}/blocks", "rotation_whole"], [rotated]),
    ]
    graph.insert_before(matmul, nodes)
    matmul.input[0] = rotated


def _factors(graph: OnnxGraph, site: Site, channels: Floats) -> Floats:
    """By how much each channel is divided: more where activations are large and weights small."""
    squares = [
        np.square(graph.float_weight(matmul.input[1])).mean(axis=1) for matmul in site.matmuls
    ]
    weights = np.sqrt(np.mean(squares, axis=0))
    factors = np.sqrt(np.maximum(channels, _TINY) / np.maximum(weights, _TINY))
    balanced: Floats = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
    return balanced


def _shared_by_groups(factors: Floats, shape: AttentionShape) -> Floats:
    """One factor for the query heads that read the same values."""
    heads = factors.reshape(shape.num_kv_heads, shape.num_heads // shape.num_kv_heads, -1)
    shared = np.exp(np.log(heads).mean(axis=1, keepdims=True))
    return np.broadcast_to(shared, heads.shape).reshape(-1).astype(np.float32)


def _hide_in_norm(graph: OnnxGraph, site: Site, factors: Floats) -> bool:
    norm = graph.producer(site.value)
    if norm is None or norm.output[0] != site.value:
        return False
    names = [name for name in norm.input[NORMS[norm.op_type] :][:2] if graph.is_weight(name)]
    if not names or any(len(graph.consumers(name)) != 1 for name in names):
        return False
    for name in names:  # the weight, and the bias of norms that have one
        graph.set_weight(name, graph.float_weight(name) / factors)
    return True


def _hide_in_product(graph: OnnxGraph, site: Site, factors: Floats) -> bool:
    product = graph.producer(site.value)
    for name in reversed(product.input if product is not None else ()):
        if len(graph.consumers(name)) == 1 and _divide_outputs(graph, name, slice(None), factors):
            return True
    return False


def _hide_in_values(graph: OnnxGraph, site: Site, factors: Floats, shape: AttentionShape) -> bool:
    attention = graph.producer(site.value)
    if attention is None or site.is_shared:
        return False
    width = len(factors) // shape.num_heads * shape.num_kv_heads
    values = factors.reshape(shape.num_kv_heads, -1, width // shape.num_kv_heads)[:, 0].reshape(-1)
    source = attention.input[2] or attention.input[0]
    split = graph.producer(source)
    if split is not None and split.op_type == "Split":
        source = split.input[0]
    # Values come last where queries, keys and values are one matrix.
    return _divide_outputs(graph, source, slice(-width, None), values)


def _divide_outputs(graph: OnnxGraph, value: str, columns: slice, factors: Floats) -> bool:
    """Divide columns of a value inside the matrix (and bias) that gives it; False if none does."""
    node = graph.producer(value)
    bias = None
    if node is not None and node.op_type == "Add" and graph.is_weight(node.input[1]):
        bias, node = node.input[1], graph.producer(node.input[0])
    if node is None or node.op_type != "MatMul" or not graph.is_weight(node.input[1]):
        return False
    if any(len(graph.consumers(name)) != 1 for name in (node.input[1], node.output[0])):
        return False
    for name in filter(None, (node.input[1], bias)):
        weight = graph.float_weight(name).copy()
        weight[..., columns] /= factors
        graph.set_weight(name, weight)
    return True


def _divide(graph: OnnxGraph, site: Site, factors: Floats) -> None:
    """Divide at run time, where the factors cannot hide."""
    smooth_value = f"{site.value}/smooth"
    factor = graph.set_weight(f"{smooth_value}/factor", 1 / factors)
    graph.insert_before(
        site.matmuls[0], [helper.make_node("Mul", [site.value, factor], [smooth_value])]
    )
    for matmul in site.matmuls:
        matmul.input[0] = smooth_value


def _scale_weight(graph: OnnxGraph, name: str, *, rows: Floats) -> None:
    graph.set_weight(name, graph.float_weight(name) * rows[:, None])


def _rotation_size(num_channels: int) -> int:
    """The largest power of two that divides the channels, up to a limit."""
    return min(num_channels & -num_channels, _MAX_ROTATION)


def _hadamard(size: int) -> Floats:
    """Sylvester's matrix: orthogonal, symmetric, every entry of the same magnitude."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    orthogonal: Floats = (matrix / np.sqrt(size)).astype(np.float32)
    return orthogonal
