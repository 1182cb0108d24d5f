"""Weights in fewer bits through torchao, activations as they were. Called by `torch_variant`.

The folder that comes out is one of transformers' own: its config.json says how the weights are
kept, so whatever loads models with transformers and has torchao loads it.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PreTrainedModel, TorchAoConfig

from optimize.errors import LoadingFailed, ModelRefused
from optimize.foreign_errors import translated
from optimize.placement import Placement
from optimize.quiet_bars import quiet_bars
from optimize.torch_technique import TorchTechnique

INT4_GROUP = 32


def require_torchao() -> None:
    """Check that torchao is there.

    Raises:
        ModelRefused: it is not.
    """
    if find_spec("torchao") is None:
        raise ModelRefused(
            "keeping weights in fewer bits needs torchao, which is not installed. "
            "Install it with `pip install 'beamline[torchao]'`."
        )


def quantize_weights(
    folder: Path, technique: TorchTechnique, placement: Placement, *, trust_remote_code: bool
) -> PreTrainedModel:
    """The model in `folder` on its device, with its weights quantised while they are loaded.

    Raises:
        LoadingFailed: torchao cannot do that to this model, or not on this device.
    """
    with (
        translated(lambda reason: LoadingFailed(f"torchao, {technique.value}: {reason[:400]}")),
        quiet_bars(),
    ):
        module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=placement.torch_dtype,
            device_map=placement.device,
            quantization_config=TorchAoConfig(quant_type=_CONFIGS[technique]()),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
        )
    module.eval()  # type: ignore[no-untyped-call]
    return module


def _int8() -> Any:  # noqa: ANN401  torchao's classes are not typed
    from torchao.quantization import Int8WeightOnlyConfig  # noqa: PLC0415  optional

    return Int8WeightOnlyConfig(version=2)


def _int4() -> Any:  # noqa: ANN401
    from torchao.quantization import Int4WeightOnlyConfig  # noqa: PLC0415

    return Int4WeightOnlyConfig(group_size=INT4_GROUP, int4_packing_format="tile_packed_to_4d")


def _fp8() -> Any:  # noqa: ANN401
    from torchao.quantization import Float8WeightOnlyConfig  # noqa: PLC0415

    return Float8WeightOnlyConfig()


_CONFIGS: Mapping[TorchTechnique, Callable[[], Any]] = {
    TorchTechnique.INT8_WEIGHT_ONLY: _int8,
    TorchTechnique.INT4_WEIGHT_ONLY: _int4,
    TorchTechnique.FP8_WEIGHT_ONLY: _fp8,
}
