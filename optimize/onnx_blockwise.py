"""Matrices in blocks of 32 weights with a scale each: the `int8` and `int4` schemes.

Called by `onnx_schemes`. ONNX Runtime's MatMulNBits rounds activations to eight bits by blocks as
well (accuracy level 4) and each row by itself, so rows of a batch do not touch each other. A
matrix that was quantised before keeps every value where its bits allow (see `onnx_blocks`); what
an integer zero point cannot say is added as a small product.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from optimize.onnx_blocks import BLOCK, Blocks, find_grid, round_to_blocks, seems_on_grid
from optimize.onnx_graph import MICROSOFT, OnnxGraph
from optimize.onnx_session import Floats
from optimize.onnx_structure import Site

_ACCURACY = 4  # activations in eight bits


def quantize_int8(graph: OnnxGraph, sites: Sequence[Site]) -> None:
    """Put all matrices into eight bits."""
    _replace(graph, sites, lambda _site, weight: _nearest(weight, 8))


def quantize_int4(graph: OnnxGraph, sites: Sequence[Site]) -> None:
    """Put matrices into four bits, but that of the logits into eight.

    If the model was quantised to four bits before, what it keeps in more stays in eight.
    """
    names = [matmul.input[1] for site in sites if not site.is_head for matmul in site.matmuls]
    was_quantized = any(seems_on_grid(graph.float_weight(name), 4) for name in names)

    def choose(site: Site, weight: Floats) -> Blocks:
        if site.is_head or (was_quantized and not seems_on_grid(weight, 4)):
            return _nearest(weight, 8)
        return _nearest(weight, 4)

    _replace(graph, sites, choose)


def _nearest(weight: Floats, bits: int) -> Blocks:
    """The matrix itself where it lies on a grid, else the nearest blocks to it."""
    return find_grid(weight, bits) or round_to_blocks(weight, bits)


def _replace(
    graph: OnnxGraph, sites: Sequence[Site], choose: Callable[[Site, Floats], Blocks]
) -> None:
    replacements: dict[int, list[NodeProto]] = {}
    for site in sites:
        has_sums = False
        for matmul in site.matmuls:
            blocks = choose(site, graph.float_weight(matmul.input[1]))
            nodes = _multiply(graph, matmul, blocks)
            if blocks.offsets is not None:
                nodes = ([] if has_sums else _sum_blocks(graph, site.value)) + nodes
                has_sums = True
            replacements[id(matmul)] = nodes
    graph.replace_nodes(replacements)


def _multiply(graph: OnnxGraph, matmul: NodeProto, blocks: Blocks) -> list[NodeProto]:
    value, name, output = matmul.input[0], matmul.input[1], matmul.output[0]
    num_inputs, num_outputs = graph.weight(name).shape
    inputs = [
        value,
        graph.set_weight(f"{name}/levels", _packed(blocks.levels, blocks.bits)),
        graph.set_weight(f"{name}/scales", blocks.scales.reshape(-1)),
        graph.set_weight(
            f"{name}/zero_points", _packed(blocks.zero_points, blocks.bits).reshape(-1)
        ),
    ]
    product = output if blocks.offsets is None else f"{output}/without_offsets"
    node = helper.make_node(
        "MatMulNBits",
        inputs,
        [product],
        domain=MICROSOFT,
        K=num_inputs,
        N=num_outputs,
        bits=blocks.bits,
        block_size=BLOCK,
        accuracy_level=_ACCURACY,
    )
    if blocks.offsets is None:
        return [node]
    offsets = graph.set_weight(f"{name}/offsets", blocks.offsets.T)
    return [
        node,
        helper.make_node("MatMul", [f"{value}/sums", offsets], [f"{output}/offsets"]),
        helper.make_node("Add", [product, f"{output}/offsets"], [output]),
    ]


def _sum_blocks(graph: OnnxGraph, value: str) -> list[NodeProto]:
    """The sums over each block of a value's channels, which offsets are multiplied with."""
    shape = graph.set_weight("blocks/shape", np.array([0, 0, -1, BLOCK], np.int64))
    axis = graph.set_weight("blocks/axis", np.array([-1], np.int64))
    return [
        helper.make_node("Reshape", [value, shape], [f"{value}/blocks"]),
        helper.make_node("ReduceSum", [f"{value}/blocks", axis], [f"{value}/sums"], keepdims=0),
    ]


def _packed(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Values of the last axis in bytes: two a byte, the first in its lower half, for four bits."""
    if bits == 8:
        return levels
    if levels.shape[-1] % 2:
        levels = np.pad(levels, [(0, 0)] * (levels.ndim - 1) + [(0, 1)])
    packed: NDArray[np.uint8] = (levels[..., 0::2] | (levels[..., 1::2] << 4)).astype(np.uint8)
    return packed
