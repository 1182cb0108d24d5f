"""Eight-bit columns err by little, and no processor's 16-bit sums can overflow on them."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optimize.onnx_w8a8 import is_integer_product_exact, quantize_columns

MOST_IN_A_PAIR = 128  # 255 times it fits into 16 bits
KINDS = ["normal", "uniform", "outliers", "one sign", "zeros"]


def draw(kind, seed, shape):
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=shape)
    if kind == "uniform":
        weight = generator.uniform(-1, 1, shape)
    elif kind == "outliers":
        weight[generator.random(shape) < 0.05] *= 50
    elif kind == "one sign":
        weight = np.abs(weight)
    elif kind == "zeros":
        weight = np.zeros(shape)
    return weight.astype(np.float32)


@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    num_inputs=st.sampled_from([1, 2, 7, 64]),
)
def test_no_two_neighbours_can_overflow_together(kind, seed, num_inputs):
    quantized, _ = quantize_columns(draw(kind, seed, (num_inputs, 12)))
    wide = quantized.astype(np.int32)
    assert np.abs(wide).max(initial=0) <= 127
    pairs = wide[0::2][: num_inputs // 2] + wide[1::2]
    assert np.abs(pairs).max(initial=0) <= MOST_IN_A_PAIR


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32 - 1))
def test_columns_are_off_by_less_than_two_steps(kind, seed):
    weight = draw(kind, seed, (64, 12))
    quantized, scales = quantize_columns(weight)
    error = np.abs(quantized * scales - weight)
    assert np.all(error <= 1.51 * scales)  # half a step, and one where a pair was shortened
    assert np.sqrt(np.square(error).mean()) <= 0.5 * scales.mean()


def test_this_machine_multiplies_such_columns_exactly():
    weight = draw("one sign", 3, (256, 32))
    quantized, _ = quantize_columns(weight)
    inputs = np.random.default_rng(1).integers(200, 256, (3, 256)).astype(np.uint8)
    node = helper.make_node("MatMulInteger", ["inputs", "weights"], ["products"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, inputs.shape)],
        [helper.make_tensor_value_info("products", TensorProto.INT32, None)],
        [numpy_helper.from_array(quantized, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (products,) = session.run(None, {"inputs": inputs})
    if not is_integer_product_exact():
        pytest.skip("the scheme is refused on this processor")
    assert np.array_equal(products, inputs.astype(np.int32) @ quantized.astype(np.int32))
