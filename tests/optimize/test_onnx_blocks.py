"""Blocks of a matrix: what was quantised before keeps every value, what was not is near."""

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from hypothesis import given
from hypothesis import strategies as st

from optimize.onnx_blocks import BLOCK, find_grid, round_to_blocks, seems_on_grid

ROUNDING = 2.0**-22  # of the greatest magnitude in a block: two roundings of float32
Q4_K_VALUES, Q4_K_BYTES = 256, 144


def values_of(blocks):
    """The matrix [inputs, outputs] that blocks stand for."""
    steps = blocks.levels.astype(np.float32) - blocks.zero_points.astype(np.float32)[..., None]
    values = blocks.scales[..., None] * steps
    if blocks.offsets is not None:
        values = values + blocks.offsets[..., None]
    return values.reshape(len(values), -1).T


def greatest(weight):
    """The greatest magnitude in each value's block, in the shape of the matrix."""
    blocks = np.abs(weight).reshape(-1, BLOCK, weight.shape[1]).max(axis=1)
    return np.repeat(blocks, BLOCK, axis=0)


def assert_kept(weight, blocks):
    assert blocks is not None
    error = np.abs(values_of(blocks) - weight)
    assert (error / np.maximum(greatest(weight), 1e-30)).max() <= ROUNDING


def random_matrix(seed, num_inputs=256, num_outputs=70):
    return np.random.default_rng(seed).normal(size=(num_inputs, num_outputs)).astype(np.float32)


def stored_as(kind, weight):
    """What a GGUF file makes of a matrix."""
    return np.ascontiguousarray(dequantize(quantize(weight.T.copy(), kind), kind).T)


def random_q4_k(seed):
    """A matrix as a file of mixed 4-bit parts keeps most: any bits but those of its two scales."""
    generator = np.random.default_rng(seed)
    packed = generator.integers(0, 256, size=(20, Q4_K_BYTES), dtype=np.uint8)
    packed[:, :4] = generator.uniform(1e-4, 1e-2, (20, 2)).astype(np.float16).view(np.uint8)
    return np.ascontiguousarray(dequantize(packed, gguf.GGMLQuantizationType.Q4_K).T)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1e-6, 1.0, 300.0]))
def test_matrices_of_four_bits_keep_every_value(kind, seed, size):
    weight = stored_as(gguf.GGMLQuantizationType[kind], random_matrix(seed) * np.float32(size))
    assert_kept(weight, find_grid(weight, 4))


@given(seed=st.integers(0, 2**32 - 1))
def test_four_bit_parts_of_mixed_files_keep_every_value(seed):
    weight = random_q4_k(seed)
    assert weight.shape[0] == Q4_K_VALUES
    assert_kept(weight, find_grid(weight, 4))


@given(seed=st.integers(0, 2**32 - 1))
def test_matrices_of_eight_bits_keep_every_value(seed):
    weight = stored_as(gguf.GGMLQuantizationType.Q8_0, random_matrix(seed))
    assert_kept(weight, find_grid(weight, 8))


def test_zero_points_suffice_where_the_grid_goes_through_zero():
    assert find_grid(stored_as(gguf.GGMLQuantizationType.Q4_0, random_matrix(0)), 4).offsets is None
    shifted = find_grid(stored_as(gguf.GGMLQuantizationType.Q4_1, random_matrix(0)), 4)
    assert shifted.offsets is not None


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_of_one_value_and_of_zeros_are_on_a_grid(bits):
    weight = np.zeros((64, 3), np.float32)
    weight[32:, 1] = -0.75
    weight[:32, 2] = 0.001
    assert_kept(weight, find_grid(weight, bits))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_float_matrix_is_on_no_grid(bits):
    assert not seems_on_grid(random_matrix(1), bits)
    assert find_grid(random_matrix(1), bits) is None


@pytest.mark.parametrize("bits", [4, 8])
def test_one_value_beside_the_grid_is_enough_to_be_off_it(bits):
    kind = {4: gguf.GGMLQuantizationType.Q4_1, 8: gguf.GGMLQuantizationType.Q8_0}[bits]
    weight = stored_as(kind, random_matrix(2))
    row = np.argsort(np.abs(weight[:BLOCK, 69]))[BLOCK // 2]  # the extremes would be a new grid
    weight[row, 69] *= np.float32(1.001)
    assert seems_on_grid(weight, bits)  # it looks at the first columns only
    assert find_grid(weight, bits) is None


@pytest.mark.parametrize("bits", [4, 8])
@given(seed=st.integers(0, 2**32 - 1), num_inputs=st.sampled_from([32, 40, 96]))
def test_rounding_errs_by_half_a_step_at_most(bits, seed, num_inputs):
    weight = random_matrix(seed, num_inputs, 9)
    blocks = round_to_blocks(weight, bits)
    filled = np.pad(weight, ((0, -num_inputs % BLOCK), (0, 0)))
    steps = np.repeat(blocks.scales.T, BLOCK, axis=0)
    # The zero point is rounded as well, which can push an extreme out by half a step more.
    assert np.all(np.abs(values_of(blocks) - filled) <= steps * 1.001)
    inner = np.abs(filled) <= 0.5 * greatest(filled)
    assert np.all((np.abs(values_of(blocks) - filled) <= steps * 0.501)[inner])
