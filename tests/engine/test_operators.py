"""The operators in C++ against NumPy: odd sizes, windows, rotations, ragged batches, zero rows."""

import platform

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.compiled_operators import KINDS
from engine.native_library import (
    THIS_PROCESSOR,
    compile_library,
    find_compiler,
    instructions,
)
from engine.native_runner import BLOCK_TOKENS

ONNX_TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT32}


# As they are compiled here, and as for each kind of processor that this one is of.
TARGETS = {"native": (THIS_PROCESSOR,)} | {
    kind.name: kind.targets
    for kind in KINDS.get(platform.machine(), ())
    if kind.needs <= instructions()
}


@pytest.fixture(scope="module", params=TARGETS)
def library(request, tmp_path_factory):
    made = tmp_path_factory.mktemp("operators") / "operators.so"
    compile_library(find_compiler(), TARGETS[request.param], made)
    return made


@pytest.fixture(scope="module")
def run_operator(library):
    """Runs one operator on arrays: a session with it alone."""

    def run(name, inputs, constants, **attributes):
        names = [*inputs, *constants]
        if "qkv" in inputs:  # keys and values come with the queries
            names[1:1] = ["", ""]
        node = helper.make_node(name, names, ["output"], domain="beamline", **attributes)
        graph = helper.make_graph(
            [node],
            name,
            [
                helper.make_tensor_value_info(key, ONNX_TYPES[array.dtype.kind], None)
                for key, array in inputs.items()
            ],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, key) for key, array in constants.items()],
        )
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("beamline", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=10)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        options.register_custom_ops_library(str(library))
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (output,) = session.run(None, inputs)
        return output

    return run


SIZES = [(1, 64, 64), (3, 100, 70), (9, 7, 1), (32, 576, 130), (5, 33, 257)]


@pytest.fixture(params=SIZES, ids=lambda sizes: "x".join(map(str, sizes)))
def matrices(request):
    """Rows [1, rows, inputs], one of them zero, and two matrices [inputs, columns]."""
    rows, inputs, columns = request.param
    random = np.random.default_rng(rows)
    values = random.normal(size=(1, rows, inputs)).astype(np.float32)
    values[0, rows // 2] = 0
    return values, *random.normal(size=(2, inputs, columns)).astype(np.float32)


def quantized(matrix):
    """Weights of the scheme: no two neighbours exceed 128 together."""
    scales = (np.abs(matrix).max(axis=0) / 64).astype(np.float32)
    return np.rint(matrix / scales).astype(np.int8), scales


def quantized_product(values, weights, scales):
    """The same integers as the operator, summed exactly."""
    steps = np.abs(values).max(axis=-1, keepdims=True) * np.float32(1 / 127)
    rows = np.rint(values / np.where(steps > 0, steps, 1)).astype(np.int64)
    return (rows @ weights.astype(np.int64)).astype(np.float32) * scales * steps


def sigmoid(values):
    with np.errstate(over="ignore"):  # an infinite divisor is right
        return 1 / (1 + np.exp(-values.astype(np.float64)))


def silu(values):
    return values * sigmoid(values)


def test_products_with_eight_bit_matrices_are_exact_integers(run_operator, matrices):
    values, matrix, _ = matrices
    weights, scales = quantized(matrix)
    found = run_operator("QuantizedLinear", {"x": values}, {"w": weights, "s": scales})
    np.testing.assert_array_equal(found, quantized_product(values, weights, scales))


def test_products_with_float_matrices(run_operator, matrices):
    values, matrix, _ = matrices
    found = run_operator("FloatLinear", {"x": values}, {"w": matrix})
    np.testing.assert_allclose(found, values @ matrix, rtol=1e-4, atol=1e-3)


def test_gates_open_what_they_are_multiplied_with(run_operator, matrices):
    values, gate, other = matrices
    found = run_operator("FloatGate", {"x": values}, {"g": gate, "u": other})
    expected = silu(values @ gate) * (values @ other)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_eight_bit_gates(run_operator, matrices):
    values, *both = matrices
    (gate, gate_scales), (other, other_scales) = map(quantized, both)
    constants = {"g": gate, "gs": gate_scales, "u": other, "us": other_scales}
    found = run_operator("QuantizedGate", {"x": values}, constants)
    expected = silu(quantized_product(values, gate, gate_scales))
    expected *= quantized_product(values, other, other_scales)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_extreme_gates_stay_finite(run_operator):
    values = np.array([[[-1e4, 1e4, 88.0, -88.0]]], np.float32)
    one = np.eye(4, dtype=np.float32)
    found = run_operator("FloatGate", {"x": values}, {"g": one, "u": one})
    np.testing.assert_allclose(found, silu(values) * values, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("count", [1, 15, 16, 5000])
def test_functions_of_each_number(run_operator, count):
    values = np.linspace(-20, 20, count, dtype=np.float32).reshape(1, 1, count)
    found = run_operator("Sigmoid", {"x": values}, {})
    np.testing.assert_allclose(found, sigmoid(values), rtol=1e-5)
    inner = np.sqrt(2 / np.pi) * (values + 0.044715 * values.astype(np.float64) ** 3)
    expected = 0.5 * values * (1 + np.tanh(inner))
    found = run_operator("TanhGelu", {"x": values}, {})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def rotated(vectors, positions, angles, *, is_interleaved):
    """Vectors [tokens, heads, size] turned by the angles [positions, pairs] of their positions."""
    turned, pairs = vectors.astype(np.float64), angles.shape[1]
    leading = turned[..., : 2 * pairs].copy()
    if is_interleaved:
        one, other = leading[..., 0::2], leading[..., 1::2]
    else:
        one, other = leading[..., :pairs], leading[..., pairs:]
    cosine, sine = (f(angles[positions])[:, None] for f in (np.cos, np.sin))
    parts = one * cosine - other * sine, one * sine + other * cosine
    if is_interleaved:
        turned[..., 0 : 2 * pairs : 2], turned[..., 1 : 2 * pairs : 2] = parts
    else:
        turned[..., : 2 * pairs] = np.concatenate(parts, axis=-1)
    return turned


def attended(queries, keys, values, *, window, scale):
    """The newest `queries` of one sequence over all of its keys and values, causally."""
    shared = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat(shared, axis=1), values.repeat(shared, axis=1)
    scores = np.einsum("qhd,khd->hqk", queries, keys) * scale
    query_at = np.arange(len(keys) - len(queries), len(keys))[:, None]
    key_at = np.arange(len(keys))
    hidden = (key_at > query_at) | (key_at <= query_at - window if window else False)
    scores[:, hidden] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, values)


@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "apart"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "pairs", "is_interleaved", "window"),
    [
        (9, 3, 64, 32, False, 0),
        (4, 4, 16, 8, True, 0),
        (4, 1, 32, 4, False, 7),
        (2, 1, 80, 0, False, 20),
        (8, 2, 128, 64, False, 16),
    ],
)
@pytest.mark.parametrize("is_decoding", [True, False], ids=["decoding", "mixed"])
def test_attention_over_blocks(
    run_operator, is_packed, heads, kv_heads, size, pairs, is_interleaved, window, is_decoding
):
    random = np.random.default_rng(size)
    lengths = [1, 16, 17, 40, 75]
    chunks = [1] * 5 if is_decoding else [1, 16, 3, 1, 50]
    angles = random.uniform(0, 6, size=(100, pairs))
    tables, num_blocks = np.zeros((5, 5), np.int32), 14
    blocks = random.permutation(num_blocks)
    layers, layer, scale = 3, 1, 0.3
    cache = random.normal(size=(num_blocks, layers, kv_heads, 2, BLOCK_TOKENS * size))
    cache, new, expected = cache.astype(np.float32), [], []
    for row, (length, chunk) in enumerate(zip(lengths, chunks, strict=True)):
        own, blocks = np.split(blocks, [-(-length // BLOCK_TOKENS)])
        tables[row, : len(own)] = own
        query = random.normal(size=(chunk, heads, size)).astype(np.float32)
        key, value = random.normal(size=(2, length, kv_heads, size)).astype(np.float32)
        positions = np.arange(length)
        turned = rotated(key, positions, angles, is_interleaved=is_interleaved)
        for at in range(length - chunk):
            block, lane = own[at // BLOCK_TOKENS], at % BLOCK_TOKENS
            keys, values = cache[block, layer, :, 0], cache[block, layer, :, 1]
            keys[:, lane::BLOCK_TOKENS] = turned[at]
            values[:, lane * size : (lane + 1) * size] = value[at]
        queries = rotated(query, positions[-chunk:], angles, is_interleaved=is_interleaved)
        expected.append(attended(queries, turned, value, window=window, scale=scale))
        new.append((query, key[-chunk:], value[-chunk:]))
    query, key, value = (
        np.concatenate([row[part] for row in new]).reshape(1, sum(chunks), -1) for part in range(3)
    )
    projections = (
        {"qkv": np.concatenate([query, key, value], axis=-1)}
        if is_packed
        else {"q": query, "k": key, "v": value}
    )
    inputs = projections | {
        "cache": cache.reshape(num_blocks, -1),
        "tables": tables,
        "starts": np.cumsum([0, *chunks]).astype(np.int32),
        "lengths": np.array(lengths, np.int32),
        "cosines": np.cos(angles).astype(np.float32),
        "sines": np.sin(angles).astype(np.float32),
    }
    found = run_operator(
        "PagedAttention",
        inputs,
        {},
        num_heads=heads,
        kv_num_heads=kv_heads,
        head_size=size,
        num_layers=layers,
        layer=layer,
        scale=scale,
        do_rotary=int(pairs > 0),
        rotary_interleaved=int(is_interleaved),
        local_window_size=window or -1,
    )
    np.testing.assert_allclose(
        found.reshape(-1, heads, size), np.concatenate(expected), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("width", [1, 5, 16, 17, 1000, 4099])
@pytest.mark.parametrize("size", [0.01, 3.0, 60.0])
def test_row_summary(run_operator, width, size):
    rows = np.random.default_rng(width).normal(size=(1, 7, width)).astype(np.float32) * size
    rows[0, 3, : width // 2] = rows[0, 3].max()  # equals: the first counts
    rows[0, 4, width // 2 :] = -np.inf
    rows[0, 4, 0] = 0
    found = run_operator("RowSummary", {"scores": rows}, {})
    top = rows.max(axis=2, keepdims=True).astype(np.float64)
    expected = np.log(np.exp(rows - top).sum(axis=2)) + top[:, :, 0]
    np.testing.assert_allclose(found[:, :, 0], expected, rtol=1e-6, atol=2e-6)
    np.testing.assert_array_equal(found[:, :, 1], rows.argmax(axis=2))
    alone = run_operator("RowSummary", {"scores": rows[:, 2:3]}, {})
    np.testing.assert_array_equal(alone, found[:, 2:3])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 20, 36])
def test_rows_that_cannot_be_chosen_from_have_no_finite_summary(run_operator, value, place):
    rows = np.ones((1, 3, 37), np.float32)
    rows[0, 1, place] = value
    if value == -np.inf:
        rows[0, 1] = value
    found = run_operator("RowSummary", {"scores": rows}, {})
    assert np.isfinite(found[0, :, 0]).tolist() == [True, False, True]
