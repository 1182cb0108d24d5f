"""Finds out in a moment whether a model can be prepared. Called by the CLI and by `prepare`.

Everything cheap happens here and nothing heavy: names, files, headers, sizes. No torch is imported
and no weight is read, so a mistake is answered before a server starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from machine.memory import available_memory_bytes
from optimize.architecture import check_folder_architecture, check_gguf_architecture
from optimize.errors import SourceNotFound
from optimize.gguf_header import GgufHeader, read_gguf_header
from optimize.hub import fetch_description
from optimize.memory import require_memory
from optimize.model_folder import find_weights, read_config, read_tokenizer_config
from optimize.onnx_manifest import ONNX_MANIFEST_FILE, read_manifest
from optimize.placement_names import DTYPE_BYTES, check_placement_names, may_have_cuda
from optimize.program_manifest import PROGRAM_MANIFEST_FILE, read_program_manifest
from optimize.source import GgufFile, HubRepository, LocalFolder, find_source
from optimize.spec import ModelSpec
from optimize.torch_technique import COMPILE_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedGguf:
    """A GGUF file that can be converted."""

    name: str
    file: Path
    header: GgufHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFolder:
    """A complete transformers folder."""

    name: str
    folder: Path
    torch_only: str | None = None  # why nothing but torch can run it, in a few words


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRepository:
    """A hub model whose description is on this machine and whose weights may not be yet."""

    name: str
    repository: HubRepository
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOnnx:
    """A folder that was exported for ONNX Runtime."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedProgram:
    """A folder with a program of torch in it."""

    name: str
    folder: Path


CheckedModel = CheckedOnnx | CheckedProgram | CheckedGguf | CheckedFolder | CheckedRepository


def check_model(spec: ModelSpec) -> CheckedModel:
    """Check everything about `spec` that can be checked without loading the model.

    Raises:
        ModelRefused: the model or its placement is wrong; the message says what to do.
        NotEnoughMemory: it cannot fit into main memory (a GPU's is looked at when loading).
        HubUnavailable: it is a hub model and the hub does not answer.
    """
    check_placement_names(spec.device, spec.dtype)
    try:
        return _check(spec)
    except OSError as error:
        raise SourceNotFound(
            f"model {spec.source!r} cannot be read ({error}). Check the path and its permissions."
        ) from error


def _check(spec: ModelSpec) -> CheckedModel:
    source = find_source(spec)
    match source:
        case GgufFile():
            return _check_gguf(source, spec)
        case LocalFolder():
            return _check_folder(source, spec)
        case HubRepository():
            return _check_repository(source, spec)


def _check_gguf(source: GgufFile, spec: ModelSpec) -> CheckedGguf:
    header = read_gguf_header(source.path)
    check_gguf_architecture(source.name, header)
    _check_memory(source.name, header.num_parameters * _bytes_per_value(spec), spec)
    return CheckedGguf(name=source.name, file=source.path, header=header)


def _check_folder(
    source: LocalFolder, spec: ModelSpec
) -> CheckedFolder | CheckedOnnx | CheckedProgram:
    if (source.path / ONNX_MANIFEST_FILE).is_file():
        return _check_onnx(source)
    if (source.path / PROGRAM_MANIFEST_FILE).is_file():
        return _check_program(source)
    _check_description(source.name, source.path, spec)
    weights = find_weights(source.path)
    _check_memory(source.name, weights.num_bytes(_bytes_per_value(spec)), spec)
    return CheckedFolder(
        name=source.name, folder=source.path, torch_only=_why_torch_only(source.path)
    )


def _why_torch_only(folder: Path) -> str | None:
    if (folder / COMPILE_FILE).is_file():
        return "it was made to be compiled for torch"
    quantization = read_config(folder).get("quantization_config")
    if isinstance(quantization, dict):
        return f"its weights are quantised by {quantization.get('quant_method')}"
    return None


def _check_onnx(source: LocalFolder) -> CheckedOnnx:
    read_manifest(source.path)
    _require_main_memory(source.name, source.path.glob("*.onnx*"))
    return CheckedOnnx(name=source.name, folder=source.path)


def _check_program(source: LocalFolder) -> CheckedProgram:
    manifest = read_program_manifest(source.path)
    _require_main_memory(source.name, [source.path / manifest.file])
    return CheckedProgram(name=source.name, folder=source.path)


def _require_main_memory(name: str, files: Iterable[Path]) -> None:
    require_memory(
        name,
        num_weight_bytes=sum(file.stat().st_size for file in files),
        available_bytes=available_memory_bytes(),
        place="this machine",
    )


def _check_repository(source: HubRepository, spec: ModelSpec) -> CheckedRepository:
    folder = fetch_description(source, trust_remote_code=spec.trust_remote_code)
    _check_description(source.name, folder, spec)
    return CheckedRepository(name=source.name, repository=source, folder=folder)


def _check_description(name: str, folder: Path, spec: ModelSpec) -> None:
    check_folder_architecture(
        name,
        read_config(folder),
        read_tokenizer_config(folder),
        trust_remote_code=spec.trust_remote_code,
    )


def _check_memory(name: str, num_weight_bytes: int, spec: ModelSpec) -> None:
    if spec.device == "cpu" or (spec.device is None and not may_have_cuda()):
        require_memory(
            name,
            num_weight_bytes=num_weight_bytes,
            available_bytes=available_memory_bytes(),
            place="this machine",
        )


def _bytes_per_value(spec: ModelSpec) -> int:
    return DTYPE_BYTES[spec.dtype or "float32"]
