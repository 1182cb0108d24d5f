"""Matrices in blocks of 32 weights with a scale each, as numbers. Used by `onnx_blockwise`.

A matrix that was quantised before, such as one from a GGUF file, lies on a grid in each block. Its
grid is found from the values, so that quantising it again changes none of them: Q4_0, Q4_1 and the
4-bit parts of Q4_K on 16 steps, Q8_0 on 255 steps around zero.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from optimize.onnx_session import Floats

BLOCK = 32
_STEPS = {8: 255, 4: 15}
_SYMMETRIC = 127  # steps on either side of zero
_MIDDLE = {8: 128, 4: 8}  # the level in the middle
_TOLERANCE = 2e-6  # of a block's greatest magnitude: the rounding of float32
_SAMPLE = 64  # columns of a quick look


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix [inputs, outputs] as `scale * (level - zero_point) + offset` by blocks of inputs."""

    bits: int  # 4 or 8, of a level
    levels: NDArray[np.uint8]  # [outputs, blocks, 32]
    scales: Floats  # [outputs, blocks]
    zero_points: NDArray[np.uint8]  # [outputs, blocks]
    offsets: Floats | None  # [outputs, blocks]; None: all are zero


def round_to_blocks(weight: Floats, bits: int) -> Blocks:
    """The nearest blocks to a matrix, each over the range of its values and zero."""
    values = _blocks_of(weight)
    low = np.minimum(values.min(axis=2), 0)
    high = np.maximum(values.max(axis=2), 0)
    scales = _one_for_zero((high - low) / _STEPS[bits])
    zero_points = np.rint(-low / scales)
    levels = np.rint(values / scales[..., None]) + zero_points[..., None]
    return Blocks(
        bits=bits,
        levels=levels.clip(0, _STEPS[bits]).astype(np.uint8),
        scales=scales,
        zero_points=zero_points.astype(np.uint8),
        offsets=None,
    )


def find_grid(weight: Floats, bits: int) -> Blocks | None:
    """The blocks of a matrix that lies on a grid of so many bits already; None if it does not."""
    return _FIND[bits](_blocks_of(weight)) if seems_on_grid(weight, bits) else None


def seems_on_grid(weight: Floats, bits: int) -> bool:
    """Whether the first columns of a matrix lie on a grid of so many bits: a quick look."""
    if len(weight) % BLOCK:
        return False
    return _FIND[bits](_blocks_of(weight[:, :_SAMPLE])) is not None


def _symmetric_grid(values: Floats) -> Blocks | None:
    """As Q8_0: a block's greatest magnitude is 127 steps from zero."""
    greatest = np.abs(values).max(axis=2)
    scales = _one_for_zero(greatest / _SYMMETRIC)
    steps = np.rint(values / scales[..., None])
    error = np.abs(steps * scales[..., None] - values).max(axis=2)
    if not np.all(error <= greatest * _TOLERANCE):
        return None
    return Blocks(
        bits=8,
        levels=(steps + _MIDDLE[8]).astype(np.uint8),
        scales=scales,
        zero_points=np.full(scales.shape, _MIDDLE[8], np.uint8),
        offsets=None,
    )


def _sixteen_steps(values: Floats) -> Blocks | None:
    """As Q4_0 and Q4_1: from the smallest value on, in up to 15 equal steps."""
    low = values.min(axis=2)
    width = values.max(axis=2) - low
    greatest = np.abs(values).max(axis=2)
    allowed = greatest * _TOLERANCE
    # Blocks of one value take it for their step: a foreign one would round it away.
    scales, is_found = _one_for_zero(greatest), width <= allowed
    for steps in range(1, _STEPS[4] + 1):
        open_blocks = np.nonzero(~is_found)
        if not len(open_blocks[0]):
            break
        step = width[open_blocks] / steps
        from_low = values[open_blocks] - low[open_blocks][:, None]
        error = np.abs(np.rint(from_low / step[:, None]) * step[:, None] - from_low).max(axis=1)
        scales[open_blocks] = step
        is_found[open_blocks] = error <= allowed[open_blocks]
    return _with_zero_points(values, low, scales, allowed) if is_found.all() else None


def _with_zero_points(values: Floats, low: Floats, scales: Floats, allowed: Floats) -> Blocks:
    """Blocks of values that lie on a grid, with integer zero points where those say it all."""
    levels = np.rint((values - low[..., None]) / scales[..., None])
    zero_points = np.rint(-low / scales)
    is_integer = (np.abs(zero_points * scales + low) <= allowed) & (zero_points >= 0)
    if np.all(is_integer & (zero_points <= _STEPS[4])):
        offsets = None
    else:
        zero_points = np.full_like(zero_points, _MIDDLE[4])
        offsets = (low + _MIDDLE[4] * scales).astype(np.float32)
    return Blocks(4, levels.astype(np.uint8), scales, zero_points.astype(np.uint8), offsets)


def _blocks_of(weight: Floats) -> Floats:
    """A matrix [inputs, outputs] as [outputs, blocks, 32], filled up with zeros."""
    filled = np.pad(weight.T, ((0, 0), (0, -len(weight) % BLOCK)))
    return filled.reshape(len(filled), -1, BLOCK)


def _one_for_zero(scales: Floats) -> Floats:
    """Scales to divide by: those of blocks of zeros become one."""
    return np.where(scales > 0, scales, 1).astype(np.float32)


_FIND: Mapping[int, Callable[[Floats], Blocks | None]] = MappingProxyType(
    {8: _symmetric_grid, 4: _sixteen_steps}
)
