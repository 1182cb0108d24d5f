"""Which model is served, in what form and where: the part that `optimize` needs."""

from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import BaseModel, Field, field_validator

from app.setting_groups.kinds import UserPath
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme


class ModelSettings(BaseModel):
    """The served model."""

    model: str | None = Field(
        default=None,
        description="Hub id, folder or GGUF file; nothing means the embedded default.",
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub id.")
    runtime: Literal["auto", "torch", "onnx"] = Field(
        default="auto",
        description="What computes the model; auto takes onnx on a CPU where it can be exported.",
    )
    weights: WeightScheme | None = Field(
        default=None, description="How onnx keeps the weights; by default w8a8. fp32 is exact."
    )
    calibration: UserPath | None = Field(
        default=None, description="UTF-8 text to calibrate the weights with, like those to serve."
    )
    native: bool = Field(
        default=True,
        description="On onnx, compile and use operators of our own; without them it is slower.",
    )
    device: str | None = Field(default=None, description="cpu, cuda or cuda:N.")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="Type of weights and cache on torch."
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the model."
    )
    cache_folder: UserPath = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("beamline")),
        description="Where converted models are kept.",
    )
    operators_folder: UserPath | None = Field(
        default=None,
        description="Operators that `beamline operators` compiled, for a machine without compiler.",
    )

    @field_validator("operators_folder")
    @classmethod
    def _check_operators(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError("is no folder: `beamline operators` makes one")
        return folder

    @property
    def model_spec(self) -> ModelSpec:
        """What `optimize` needs of the settings."""
        return ModelSpec(
            source=self.model,
            revision=self.revision,
            device=self.device,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            cache_folder=self.cache_folder,
        )
