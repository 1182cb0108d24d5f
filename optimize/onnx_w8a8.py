"""Eight-bit weights and activations in a decoder graph: the `w8a8` scheme. Called by `onnx_export`.

Each row of an activation is quantised by itself (its greatest magnitude becomes 127), each column
of a matrix too; products are summed in integers. So a row's result is the same bits whatever rows
are beside it: integer sums have no order. Zero rows stay zero: their scale is zero as well.

Processors without dot-product instructions add two products in 16 bits, which could overflow.
Columns are therefore scaled so that no two neighbouring weights, which are the ones added first,
can exceed 128 together. That costs about a third of a bit and makes the results equal on every
machine.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from optimize.onnx_graph import MICROSOFT, Array, OnnxGraph
from optimize.onnx_session import Floats
from optimize.onnx_structure import Site

_GREATEST = 127  # magnitude of a quantised value
_PAIR = 128  # 255 * 128 is the most that fits into 16 bits
_MIDDLES = "w8a8/middles"
_CONSTANTS: Mapping[str, Array] = {
    "w8a8/one": np.array(1, np.float32),
    "w8a8/one_channel": np.array([1], np.int64),
    "w8a8/step": np.array(1 / _GREATEST, np.float32),
    "w8a8/channels": np.array([-1], np.int64),
    "w8a8/middle": np.array(128, np.uint8),
    "w8a8/zero": np.array(0, np.int8),
}


def quantize_w8a8(graph: OnnxGraph, sites: Sequence[Site]) -> None:
    """Replace the matrices of all sites, whose values must be smooth already."""
    for name, constant in _CONSTANTS.items():
        graph.set_weight(name, constant)
    graph.insert_before(graph.nodes[0], _middles())
    replacements: dict[int, list[NodeProto]] = {}
    for site in sites:
        first, *others = site.matmuls
        value, num_channels = first.input[0], len(graph.weight(first.input[1]))
        quantize = _quantize_rows(value, num_channels)
        replacements[id(first)] = quantize + _multiply(graph, first)
        replacements |= {id(matmul): _multiply(graph, matmul) for matmul in others}
    graph.replace_nodes(replacements)


def quantize_columns(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """The columns of a matrix [inputs, outputs] in eight bits, and their scales [outputs]."""
    upper, lower = weight[0::2][: len(weight) // 2], weight[1::2]
    pairs = np.where(upper * lower > 0, np.abs(upper + lower), 0).max(axis=0, initial=0)
    scales = np.maximum(np.abs(weight).max(axis=0) / _GREATEST, pairs / _PAIR).astype(np.float32)
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    quantized = np.rint(weight / scales).astype(np.int16)
    _shorten_pairs(quantized)
    return quantized.clip(-_GREATEST, _GREATEST).astype(np.int8), scales


def is_integer_product_exact() -> bool:
    """Whether this machine multiplies the extreme values of this scheme without overflow."""
    inputs = np.array([[255, 255, 255, 255], [0, 0, 255, 255]] * 8, np.uint8)
    weights = np.array([[64, -64, 127, -128], [64, -64, 1, 0]] * 2, np.int8)
    weights = np.tile(weights, (1, 8))
    node = helper.make_node("MatMulInteger", ["inputs", "weights"], ["products"])
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, inputs.shape)],
        [helper.make_tensor_value_info("products", TensorProto.INT32, None)],
        [
            helper.make_tensor(
                "weights", TensorProto.INT8, weights.shape, weights.tobytes(), raw=True
            )
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (products,) = session.run(None, {"inputs": inputs})
    return bool(np.array_equal(products, inputs.astype(np.int32) @ weights.astype(np.int32)))


def _shorten_pairs(quantized: NDArray[np.int16]) -> None:
    """Take back the one by which rounding both of a pair upwards can pass the limit, in place."""
    for _ in range(2):
        upper, lower = quantized[0::2][: len(quantized) // 2], quantized[1::2]
        excess = np.sign(upper + lower) * (np.abs(upper + lower) > _PAIR)
        is_upper = np.abs(upper) >= np.abs(lower)
        upper -= np.where(is_upper, excess, 0).astype(np.int16)
        lower -= np.where(is_upper, 0, excess).astype(np.int16)


def _middles() -> list[NodeProto]:
    """The zero points of all rows: 128 in the shape [rows, positions, 1] that they must have."""
    shape = f"{_MIDDLES}/shape"
    return [
        helper.make_node("Shape", ["input_ids"], [f"{shape}/rows"]),
        helper.make_node("Concat", [f"{shape}/rows", "w8a8/one_channel"], [shape], axis=0),
        helper.make_node("Expand", ["w8a8/middle", shape], [_MIDDLES]),
    ]


def _quantize_rows(value: str, num_channels: int) -> list[NodeProto]:
    """Compute `value/eight_bits`, unsigned around 128, and `value/scale`, one for each row."""
    magnitude, greatest, scale = f"{value}/magnitude", f"{value}/greatest", f"{value}/scale"
    return [
        helper.make_node("Abs", [value], [magnitude]),
        helper.make_node("ReduceMax", [magnitude, "w8a8/channels"], [greatest], keepdims=1),
        helper.make_node("Mul", [greatest, "w8a8/step"], [scale]),
        helper.make_node(
            "QuantizeLinear",
            [value, scale, _MIDDLES],
            [f"{value}/eight_bits"],
            axis=-1,
            block_size=num_channels,  # a row is one block
        ),
    ]


def _multiply(graph: OnnxGraph, matmul: NodeProto) -> list[NodeProto]:
    """The nodes that stand for one product."""
    value, name, output = matmul.input[0], matmul.input[1], matmul.output[0]
    quantized, scales = quantize_columns(graph.float_weight(name))
    inputs = [
        f"{value}/eight_bits",
        graph.set_weight(f"{name}/eight_bits", quantized),
        "w8a8/one",
        graph.set_weight(f"{name}/scales", scales),
        "w8a8/middle",
        "w8a8/zero",
    ]
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, [f"{output}/unscaled"], domain=MICROSOFT),
        helper.make_node("Mul", [f"{output}/unscaled", f"{value}/scale"], [output]),
    ]
