"""A model out of a 4-bit file keeps its weights exactly; it is never quantised twice."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM

from optimize.onnx_prepare import prepare_onnx
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import export, save_tiny_llama
from tests.optimize.onnx_graphs import (
    BLOCK,
    blockwise_matrices,
    export_logits,
    model_logits,
    step_logits,
)

ROUNDING = 2.0**-22  # of the greatest magnitude in a block
FINER = "layers.1.mlp.down_proj"  # what a file of mixed 4-bit and finer parts keeps in more
FINER_KIND = gguf.GGMLQuantizationType.Q5_1


def through_a_file(weight, kind):
    """A parameter [outputs, inputs] as it comes out of a GGUF file."""
    return torch.from_numpy(dequantize(quantize(weight.detach().numpy(), kind), kind))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny model with the weights of a Q4_1 file: a Q8_0 head, one matrix in more bits."""
    folder = save_tiny_llama(tmp_path_factory.mktemp("model"))
    module = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            kind = gguf.GGMLQuantizationType.Q4_1
            if "lm_head" in name or "embed" in name:
                kind = gguf.GGMLQuantizationType.Q8_0
            elif FINER in name:
                kind = FINER_KIND
            if parameter.ndim == 2:
                parameter.copy_(through_a_file(parameter, kind))
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(source):
    """The matrices of the model, [inputs, outputs], under the names of the graph."""
    module = AutoModelForCausalLM.from_pretrained(source)
    return graph_matrices(module)


def graph_matrices(module):
    parameters = {name: p.detach().numpy().T for name, p in module.named_parameters()}
    head = module.get_output_embeddings().weight.detach().numpy().T
    matrices = {"lm_head.MatMul.weight": head}
    for layer in range(module.config.num_hidden_layers):
        ours, theirs = f"model.layers.{layer}", f"model.layers.{layer}"
        parts = [parameters[f"{theirs}.self_attn.{part}_proj.weight"] for part in "qkv"]
        matrices[f"{ours}.attn.qkv_proj.MatMul.weight"] = np.concatenate(parts, axis=1)
        output = parameters[f"{theirs}.self_attn.o_proj.weight"]
        matrices[f"{ours}.attn.o_proj.MatMul.weight"] = output
        for part in ("gate", "up", "down"):
            name = f"mlp.{part}_proj"
            matrices[f"{ours}.{name}.MatMul.weight"] = parameters[f"{theirs}.{name}.weight"]
    return matrices


def largest_error(stored, original):
    """Of all values, in the greatest magnitude of its block."""
    error = np.abs(stored - original).reshape(-1, BLOCK, original.shape[1]).max(axis=1)
    greatest = np.abs(original).reshape(-1, BLOCK, original.shape[1]).max(axis=1)
    return float((error / np.maximum(greatest, 1e-30)).max())


@pytest.fixture(scope="module")
def int4(source, tmp_path_factory):
    return export(source, tmp_path_factory.mktemp("int4"), WeightScheme.INT4)[0]


def test_every_weight_of_a_four_bit_file_is_kept(int4, weights):
    stored = blockwise_matrices(int4)
    assert stored.keys() == weights.keys()
    for name, original in weights.items():
        matrix, bits = stored[name]
        if FINER not in name:
            assert largest_error(matrix, original) <= ROUNDING, name
            assert bits == (8 if "lm_head" in name else 4), name


def test_what_such_a_file_keeps_in_more_bits_stays_in_eight(int4, weights):
    name = f"model.{FINER}.MatMul.weight"
    matrix, bits = blockwise_matrices(int4)[name]
    assert bits == 8
    assert largest_error(matrix, weights[name]) <= 1 / 255


def test_logits_are_those_of_the_file_up_to_the_rounding_of_activations(int4, source):
    token_ids = np.random.default_rng(5).integers(3, 390, size=60).tolist()
    expected = model_logits(source, token_ids)
    error = export_logits(int4, token_ids) - expected
    assert np.sqrt(np.square(error).mean()) <= 0.08 * expected.std()


def test_kept_weights_do_not_make_rows_touch_each_other(int4):
    tokens = np.random.default_rng(2).integers(3, 390, size=(7, 12))
    together = step_logits(int4, tokens)
    alone = [step_logits(int4, tokens[row : row + 1]) for row in range(len(tokens))]
    assert np.allclose(
        together, np.concatenate(alone, axis=1), atol=1e-4
    )  # up to the order of sums


def test_float_weights_are_rounded_to_the_bits_asked_for(tmp_path):
    folder = save_tiny_llama(tmp_path)
    (tmp_path / "int4").mkdir()
    stored = blockwise_matrices(export(folder, tmp_path / "int4", WeightScheme.INT4)[0])
    module = AutoModelForCausalLM.from_pretrained(folder)
    for name, original in graph_matrices(module).items():
        matrix, bits = stored[name]
        assert bits == (8 if "lm_head" in name else 4)
        assert 1e-4 < largest_error(matrix, original) <= 2 / (2**bits - 1), name


@pytest.mark.slow
@pytest.mark.smollm2
def test_every_weight_of_the_embedded_default_is_kept(cache_folder):
    spec = ModelSpec(device="cpu", cache_folder=cache_folder)
    prepared = prepare_onnx(spec, WeightScheme.INT4)
    (converted,) = (cache_folder / "converted").glob("Smol*")
    original = graph_matrices(AutoModelForCausalLM.from_pretrained(converted))
    stored = blockwise_matrices(prepared.folder)
    assert stored.keys() == original.keys()
    for name, (matrix, bits) in stored.items():
        assert bits == (8 if "lm_head" in name else 4), name
        assert largest_error(matrix, original[name]) <= ROUNDING, name
