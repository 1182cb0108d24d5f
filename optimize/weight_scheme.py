"""How the weights of an exported model are stored and multiplied. Only names; no torch, no ONNX.

Chosen by whoever orders an export; `onnx_export` has one function for each.
"""

from enum import StrEnum


class WeightScheme(StrEnum):
    """What the matrices of a model are stored as and multiplied in."""

    FP32 = "fp32"  # as they are: the reference
    W8A8 = "w8a8"  # 8-bit weights and activations, smoothed with calibration

    @property
    def is_calibrated(self) -> bool:
        """Whether making it needs a text to run the model on."""
        return self is WeightScheme.W8A8
