"""What can be done to a model that stays with torch. No torch in this file."""

from enum import StrEnum

COMPILE_FILE = "beamline-compile.json"  # in a folder whose layers are to be compiled


class TorchTechnique(StrEnum):
    """How a variant for torch differs from its original."""

    INT8_WEIGHT_ONLY = "int8-weight-only"
    INT4_WEIGHT_ONLY = "int4-weight-only"
    FP8_WEIGHT_ONLY = "fp8-weight-only"
    COMPILE = "compile"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"

    @property
    def is_weight_only(self) -> bool:
        """Whether it keeps the weights in fewer bits."""
        return self.value.endswith("-weight-only")

    @property
    def is_program(self) -> bool:
        """Whether it writes the model as a program that needs none of its Python code."""
        return self in (TorchTechnique.TORCHSCRIPT, TorchTechnique.TORCH_EXPORT)

    @property
    def needs_cuda(self) -> bool:
        """Whether its kernels exist for CUDA only."""
        return self is TorchTechnique.INT4_WEIGHT_ONLY
