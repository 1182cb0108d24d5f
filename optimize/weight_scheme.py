"""How the weights of an exported model are kept: the one choice that trades quality for speed.

Named in a `ModelSpec`, in a manifest and on the command line. Values only; what each scheme does to
a graph is in `onnx_w8a8`, `onnx_blockwise`, `onnx_dynamic` and `onnx_static`.
"""

from enum import StrEnum


class WeightScheme(StrEnum):
    """What the matrices of a model are stored as and multiplied in."""

    FP32 = "fp32"  # as they are: the reference
    W8A8 = "w8a8"  # 8-bit weights and activations, smoothed with calibration: the default
    INT8 = "int8"  # 8-bit weights in blocks of 32: nearest to the original
    INT4 = "int4"  # 4-bit weights in blocks of 32: the smallest
    INT8_DYNAMIC = "int8-dynamic"  # one activation scale a tensor: rows of a batch share it
    INT8_STATIC = "int8-static"  # one activation scale a tensor, calibrated: to compare with

    @property
    def is_calibrated(self) -> bool:
        """Whether making it needs a text to run the model on."""
        return self in (WeightScheme.W8A8, WeightScheme.INT8_STATIC)

    @property
    def is_batch_invariant(self) -> bool:
        """Whether a row's results are the same bits whatever else is in the batch.

        With four bits ONNX Runtime treats a single row otherwise on processors without AVX-512.
        """
        return self not in (WeightScheme.INT8_DYNAMIC, WeightScheme.INT4)
