"""From a model's name to a model on its device: the entry point of this package for the service.

Reads as its stages: check, fetch or convert, fit, load, describe. Called by the app's start-up in
a thread of its own, since it takes seconds. Knows nothing of serving.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from optimize.check import (
    CheckedFolder,
    CheckedGguf,
    CheckedModel,
    CheckedOnnx,
    CheckedProgram,
    CheckedRepository,
    check_model,
)
from optimize.conversion import convert_once
from optimize.description import context_length, eos_token_ids
from optimize.errors import ModelRefused
from optimize.gguf_conversion import convert_gguf
from optimize.hub import fetch_weights
from optimize.loading import load_model, load_tokenizer
from optimize.memory import require_memory
from optimize.model_folder import find_weights, folder_revision
from optimize.placement import Placement, choose_placement
from optimize.report import Progress, ignore_progress, stage
from optimize.spec import ModelSpec
from optimize.threads import stay_within_cores
from optimize.torch_technique import COMPILE_FILE

__all__ = ["LocatedModel", "PreparedModel", "check_model", "locate_model", "prepare_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModel:
    """A model ready to be served."""

    module: PreTrainedModel  # eval mode, on its device, plain attention
    tokenizer: PreTrainedTokenizerBase
    name: str  # what to call it: hub id, folder name, GGUF file stem
    revision: str  # identity of the weights, part of cache keys
    device: str  # "cpu" or "cuda:<index>"
    dtype: str
    context_length: int  # tokens
    eos_token_ids: frozenset[int]
    weights: str  # how they are kept: the dtype, or what quantised them
    is_compiled: bool  # whether its folder says that its layers are to be compiled


BeforeLoading = Callable[[str, Path, Placement, PreTrainedTokenizerBase], None]
"""Given a model's name, its folder, where it goes and its tokenizer."""


def prepare_model(
    spec: ModelSpec,
    *,
    progress: Progress | None = None,
    num_shards: int = 1,
    before_loading: BeforeLoading | None = None,
) -> PreparedModel:
    """Resolve, convert where needed, and load the model that `spec` describes.

    Args:
        spec: the order.
        progress: told of the stages and how far each is, also on threads that download.
        num_shards: processes that load the model together, each its part of it.
        before_loading: called when all files are there, before weights are read.

    Raises:
        ModelError: see `optimize.errors`; each message says what to do.
    """
    stay_within_cores()
    report = progress or ignore_progress
    checked = check_model(spec)
    placement = choose_placement(spec.device, spec.dtype)
    if num_shards == 1:
        _fit_gguf(checked, placement)
    located = locate_model(checked, spec, report)
    weights = find_weights(located.folder)
    num_devices = 1 if placement.device == "cpu" else num_shards
    _fit(checked.name, weights.num_bytes(placement.bytes_per_value) // num_devices, placement)
    report("loading", 0.0)
    tokenizer = load_tokenizer(located.folder, trust_remote_code=spec.trust_remote_code)
    if before_loading is not None:
        before_loading(checked.name, located.folder, placement, tokenizer)
    module = load_model(
        located.folder,
        placement,
        trust_remote_code=spec.trust_remote_code,
        num_shards=num_shards,
    )
    report("loading", 1.0)
    return PreparedModel(
        module=module,
        tokenizer=tokenizer,
        name=checked.name,
        revision=located.revision or folder_revision(located.folder, weights),
        device=placement.device,
        dtype=placement.dtype,
        context_length=context_length(module.config, tokenizer, checked.name),
        eos_token_ids=eos_token_ids(module.config, module.generation_config, tokenizer),
        weights=_weights(module, placement),
        is_compiled=(located.folder / COMPILE_FILE).is_file(),
    )


def _weights(module: PreTrainedModel, placement: Placement) -> str:
    quantization = getattr(module.config, "quantization_config", None)
    if quantization is None:
        return placement.dtype
    method = str(getattr(quantization.quant_method, "value", quantization.quant_method))
    kind = getattr(quantization, "quant_type", None)
    return method if kind is None else f"{method} {type(kind).__name__}"


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A folder that transformers can load; no revision yet where its content must give one."""

    folder: Path
    revision: str | None


def locate_model(checked: CheckedModel, spec: ModelSpec, progress: Progress) -> LocatedModel:
    """The folder of a checked model, downloaded or converted where that has not been done.

    Raises:
        ModelError: as `prepare_model`; one that was exported or written as a program is refused.
    """
    match checked:
        case CheckedOnnx():
            raise ModelRefused(
                f"{checked.name} was exported for ONNX Runtime, which this loader does not run; "
                "give the model that it was made from."
            )
        case CheckedProgram():
            raise ModelRefused(
                f"{checked.name} is a program of torch without the model's own code; "
                "give the model that it was made from."
            )
        case CheckedFolder():
            return LocatedModel(checked.folder, None)
        case CheckedRepository():
            fetch_weights(checked.repository, checked.folder, stage(progress, "downloading"))
            return LocatedModel(checked.folder, checked.folder.name)
        case CheckedGguf():
            converted = convert_once(
                checked.file,
                checked.header,
                cache_folder=spec.cache_folder,
                convert=convert_gguf,
                progress=progress,
            )
            return LocatedModel(converted.folder, converted.revision)


def _fit_gguf(checked: CheckedModel, placement: Placement) -> None:
    """Refuse a GGUF model that cannot fit before it is converted for a minute."""
    if isinstance(checked, CheckedGguf):
        num_bytes = checked.header.num_parameters * placement.bytes_per_value
        _fit(checked.name, num_bytes, placement)


def _fit(name: str, num_weight_bytes: int, placement: Placement) -> None:
    require_memory(
        name,
        num_weight_bytes=num_weight_bytes,
        available_bytes=placement.available_bytes(),
        place=placement.device,
    )
