"""Each weight scheme: right as far as its bits allow, smaller, and served by the engine."""

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.onnx_runner import OnnxRunner
from optimize.onnx_graph import DATA_FILE, OnnxGraph
from optimize.onnx_manifest import GRAPH_FILE, NATIVE_GRAPH_FILE, read_manifest
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import build_requests, decoder_shape, export, run, save_tiny_llama
from tests.optimize.onnx_graphs import export_logits, model_logits, step_logits

MOST_ERROR = {  # root mean square, of the logits' standard deviation
    WeightScheme.FP32: 1e-5,
    WeightScheme.W8A8: 0.1,
    WeightScheme.INT8: 0.08,
    WeightScheme.INT4: 0.6,  # random weights leave four bits nothing to spare
    WeightScheme.INT8_DYNAMIC: 0.3,
    WeightScheme.INT8_STATIC: 0.25,
}
MOST_BYTES = {  # of the float matrices
    WeightScheme.FP32: 1.0,
    WeightScheme.INT4: 0.25,
}
PRODUCTS = {  # what matrices are multiplied with
    WeightScheme.FP32: "MatMul",
    WeightScheme.W8A8: "MatMulIntegerToFloat",
    WeightScheme.INT8: "MatMulNBits",
    WeightScheme.INT4: "MatMulNBits",
    WeightScheme.INT8_DYNAMIC: "MatMulInteger",
    WeightScheme.INT8_STATIC: "DequantizeLinear",
}
NATIVE = {WeightScheme.FP32, WeightScheme.W8A8}
NUM_TOKENS = 390  # of the vocabulary that texts are drawn from
NUM_MATRICES = 11  # qkv, o, gate, up and down of two layers, and the head


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def token_ids():
    return np.random.default_rng(5).integers(3, NUM_TOKENS, size=80).tolist()


@pytest.fixture(scope="module", params=WeightScheme)
def exported(request, folder, tmp_path_factory):
    return export(folder, tmp_path_factory.mktemp(request.param), request.param)


def test_logits_are_those_of_the_model_as_far_as_the_bits_allow(exported, folder, token_ids):
    target, manifest = exported
    expected = model_logits(folder, token_ids)
    error = export_logits(target, token_ids) - expected
    assert np.sqrt(np.square(error).mean()) <= MOST_ERROR[manifest.scheme] * expected.std()


def test_matrices_are_stored_and_multiplied_as_the_scheme_says(exported):
    target, manifest = exported
    graph = OnnxGraph.load(target)
    kinds = [node.op_type for node in graph.nodes]
    assert kinds.count(PRODUCTS[manifest.scheme]) >= NUM_MATRICES
    embedding = manifest.vocab_size * 64 * 4
    float_bytes = 4 * (2 * (64 * 128 + 64 * 64 + 3 * 64 * 128) + 64 * manifest.vocab_size)
    stored = (target / DATA_FILE).stat().st_size - embedding
    room = 4096 * 4 * NUM_MATRICES  # tensors begin on pages
    assert stored - room <= MOST_BYTES.get(manifest.scheme, 0.4) * float_bytes


def test_the_manifest_says_what_was_done(exported):
    target, manifest = exported
    assert read_manifest(target) == manifest
    assert (manifest.calibration is not None) == manifest.scheme.is_calibrated
    assert (manifest.num_layers, manifest.num_heads, manifest.num_kv_heads) == (2, 4, 2)
    assert (target / NATIVE_GRAPH_FILE).is_file() == (manifest.scheme in NATIVE)


def test_rows_touch_each_other_only_in_schemes_that_say_so(exported):
    target, manifest = exported
    tokens = np.random.default_rng(2).integers(3, NUM_TOKENS, size=(7, 20))
    together = step_logits(target, tokens)
    alone = np.concatenate([step_logits(target, tokens[row : row + 1]) for row in range(7)], axis=1)
    if manifest.scheme is WeightScheme.INT4:  # equal on some processors only
        assert np.allclose(together, alone, atol=0.05 * alone.std())
    else:
        assert np.array_equal(together, alone) == manifest.scheme.is_batch_invariant


def test_the_engine_serves_it(exported):
    target, manifest = exported
    config = EngineConfig(max_rows=12, num_threads=1, kv_cache_bytes=2**26)
    requests = build_requests(manifest.vocab_size, num=6, new=8)
    runner = OnnxRunner.load(
        target / GRAPH_FILE, decoder_shape(manifest), config, vocab_size=manifest.vocab_size
    )
    together = run(runner, config, requests)
    assert together.keys() == {request.request_id for request in requests}
    if manifest.scheme.is_batch_invariant:
        for request in requests:
            assert (
                run(runner, config, [request])[request.request_id] == together[request.request_id]
            )
