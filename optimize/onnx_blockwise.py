"""Matrices in blocks of 32 weights with a scale each: the `int8` and `int4` schemes.

Called by `onnx_export`. ONNX Runtime's MatMulNBits rounds activations to eight bits by blocks as
well (accuracy level 4) and each row by itself, so rows of a batch do not touch each other. A
matrix that lies on a grid of 16 steps a block already, as one from a 4-bit GGUF file does, keeps
every value: its grid is found from the values, and what an integer zero point cannot say is added
as a small product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from optimize.onnx_graph import MICROSOFT, OnnxGraph
from optimize.onnx_session import Floats
from optimize.onnx_structure import Site

BLOCK = 32
_STEPS = {8: 255, 4: 15}
_GRID_TOLERANCE = 2e-6  # of a block's greatest magnitude: the rounding of float32
_ACCURACY = 4  # activations in eight bits


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix [inputs, outputs] as `scale * (level - zero_point) + offset` by blocks of inputs."""

    levels: NDArray[np.uint8]  # [outputs, blocks, 32]
    scales: Floats  # [outputs, blocks]
    zero_points: NDArray[np.uint8]  # [outputs, blocks]
    offsets: Floats | None  # [outputs, blocks]; None: all are zero


def quantize_int8(graph: OnnxGraph, sites: Sequence[Site]) -> None:
    """Put all matrices into eight bits."""
    _replace(graph, sites, head_bits=8, bits=8)


def quantize_int4(graph: OnnxGraph, sites: Sequence[Site]) -> None:
    """Put all matrices but the one of the logits, which takes eight, into four bits."""
    _replace(graph, sites, head_bits=8, bits=4)


def round_to_blocks(weight: Floats, bits: int) -> Blocks:
    """The nearest blocks to a matrix, each over the range of its values and zero."""
    values = _blocks_of(weight)
    low = np.minimum(values.min(axis=2), 0)
    high = np.maximum(values.max(axis=2), 0)
    scales = (high - low) / _STEPS[bits]
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    zero_points = np.rint(-low / scales)
    levels = np.rint(values / scales[..., None]) + zero_points[..., None]
    return Blocks(
        levels=levels.clip(0, _STEPS[bits]).astype(np.uint8),
        scales=scales,
        zero_points=zero_points.astype(np.uint8),
        offsets=None,
    )


def find_grid(weight: Floats) -> Blocks | None:
    """The blocks of a matrix whose values lie on 16 steps in each already; None if one does not."""
    if len(weight) % BLOCK:
        return None
    values = _blocks_of(weight)
    low = values.min(axis=2)
    width = values.max(axis=2) - low
    allowed = np.abs(values).max(axis=2) * _GRID_TOLERANCE
    scales, is_found = np.ones_like(low), width <= allowed
    for steps in range(1, _STEPS[4] + 1):
        open_blocks = np.nonzero(~is_found)
        if not len(open_blocks[0]):
            break
        step = width[open_blocks] / steps
        from_low = values[open_blocks] - low[open_blocks][:, None]
        error = np.abs(np.rint(from_low / step[:, None]) * step[:, None] - from_low).max(axis=1)
        scales[open_blocks] = step
        is_found[open_blocks] = error <= allowed[open_blocks]
    if not is_found.all():
        return None
    return _on_grid(values, low, scales, allowed)


def _on_grid(values: Floats, low: Floats, scales: Floats, allowed: Floats) -> Blocks:
    """Blocks of values that lie on a grid, with integer zero points where those say it all."""
    levels = np.rint((values - low[..., None]) / scales[..., None])
    zero_points = np.rint(-low / scales)
    is_integer = (np.abs(zero_points * scales + low) <= allowed) & (zero_points >= 0)
    if np.all(is_integer & (zero_points <= _STEPS[4])):
        offsets = None
    else:
        zero_points = np.full_like(zero_points, 8)
        offsets = (low + 8 * scales).astype(np.float32)
    return Blocks(levels.astype(np.uint8), scales, zero_points.astype(np.uint8), offsets)


def _replace(graph: OnnxGraph, sites: Sequence[Site], *, head_bits: int, bits: int) -> None:
    replacements: dict[int, list[NodeProto]] = {}
    for site in sites:
        site_bits = head_bits if site.is_head else bits
        has_sums = False
        for matmul in site.matmuls:
            weight = graph.float_weight(matmul.input[1])
            found = find_grid(weight) if site_bits == 4 else None
            blocks = found if found is not None else round_to_blocks(weight, site_bits)
            nodes = _multiply(graph, matmul, blocks, site_bits)
            if blocks.offsets is not None:
                nodes = ([] if has_sums else _sum_blocks(graph, site.value)) + nodes
                has_sums = True
            replacements[id(matmul)] = nodes
    graph.replace_nodes(replacements)


def _multiply(graph: OnnxGraph, matmul: NodeProto, blocks: Blocks, bits: int) -> list[NodeProto]:
    value, name, output = matmul.input[0], matmul.input[1], matmul.output[0]
    num_inputs, num_outputs = graph.weight(name).shape
    inputs = [
        value,
        graph.set_weight(f"{name}/levels", _packed(blocks.levels, bits)),
        graph.set_weight(f"{name}/scales", blocks.scales.reshape(-1)),
        graph.set_weight(f"{name}/zero_points", _packed(blocks.zero_points, bits).reshape(-1)),
    ]
    product = output if blocks.offsets is None else f"{output}/without_offsets"
    node = helper.make_node(
        "MatMulNBits",
        inputs,
        [product],
        domain=MICROSOFT,
        K=num_inputs,
        N=num_outputs,
        bits=bits,
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


def _blocks_of(weight: Floats) -> Floats:
    """A matrix [inputs, outputs] as [outputs, blocks, 32], filled up with zeros."""
    filled = np.pad(weight.T, ((0, 0), (0, -len(weight) % BLOCK)))
    return filled.reshape(len(filled), -1, BLOCK)


def _packed(levels: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Values of the last axis in bytes: two a byte, the first in its lower half, for four bits."""
    if bits == 8:
        return levels
    if levels.shape[-1] % 2:
        levels = np.pad(levels, [(0, 0)] * (levels.ndim - 1) + [(0, 1)])
    packed: NDArray[np.uint8] = (levels[..., 0::2] | (levels[..., 1::2] << 4)).astype(np.uint8)
    return packed
