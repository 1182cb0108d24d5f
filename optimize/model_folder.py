"""A transformers folder as it lies on disk: its config, its weight files, its identity.

Called by `check` and `prepare`. Reads JSON and the heads of safetensors files, never a weight, and
imports no torch. Pickled weights are refused here, before any library could open them.
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optimize.errors import CorruptModel, InvalidModelFolder, UnsafeWeights

CONFIG_FILE = "config.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
                    "sentencepiece.bpe.model", "tekken.json", TOKENIZER_CONFIG_FILE)  # fmt: skip
DESCRIBING_SUFFIXES = {".json", ".jinja", ".model", ".txt", ".py"}
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
_FLOAT_TYPES = {"F64", "F32", "F16", "BF16"}  # cast to the dtype that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The safetensors files of a folder and how much they hold."""

    files: tuple[Path, ...]
    num_float_values: int
    num_other_bytes: int  # integers, packed quantised weights and the like: kept as they are

    def num_bytes(self, bytes_per_value: int) -> int:
        """The memory they take when floats are loaded with this many bytes each."""
        return self.num_float_values * bytes_per_value + self.num_other_bytes


def read_json(path: Path) -> Mapping[str, object]:
    """The JSON object in `path`.

    Raises:
        CorruptModel: the file is not JSON or holds something else than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptModel(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise CorruptModel(f"{path} must hold a JSON object. Download it again.")
    return content


def read_config(folder: Path) -> Mapping[str, object]:
    """The model's config.json.

    Raises:
        InvalidModelFolder: there is none.
        CorruptModel: it is not a JSON object.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        return read_json(path)
    remedy = "Give a folder written by `save_pretrained` or downloaded from the hub."
    gguf_files = sorted(folder.glob("*.gguf"))
    if gguf_files:
        remedy = f"It holds GGUF files: give one of them, such as {gguf_files[0]}."
    elif (folder / "adapter_config.json").is_file():
        remedy = "It holds an adapter: merge it into its base model first (`merge_and_unload`)."
    raise InvalidModelFolder(f"{folder} has no config.json, so it is not a model. {remedy}")


def read_tokenizer_config(folder: Path) -> Mapping[str, object]:
    """The model's tokenizer_config.json, empty where there is none.

    Raises:
        InvalidModelFolder: the folder has no tokenizer file of any kind.
        CorruptModel: the file is not a JSON object.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InvalidModelFolder(
            f"{folder} has no tokenizer. Save the model's tokenizer into it with `save_pretrained`."
        )
    path = folder / TOKENIZER_CONFIG_FILE
    return read_json(path) if path.is_file() else {}


def find_weights(folder: Path) -> Weights:
    """The folder's weight files, checked to be complete.

    Raises:
        InvalidModelFolder: it has no weights, or a part of them is missing.
        UnsafeWeights: it has only pickled ones.
        CorruptModel: a file is cut short or is no safetensors file.
    """
    files = tuple(folder / name for name in weight_file_names(folder))
    num_float_values = num_other_bytes = 0
    for file in files:
        if not file.is_file():
            raise InvalidModelFolder(f"{file} is missing. Download the model again.")
        for kind, num_values, num_bytes in _tensors(file):
            if kind in _FLOAT_TYPES:
                num_float_values += num_values
            else:
                num_other_bytes += num_bytes
    return Weights(files=files, num_float_values=num_float_values, num_other_bytes=num_other_bytes)


def weight_file_names(folder: Path) -> tuple[str, ...]:
    """The names of the safetensors files that the folder's index or convention calls for.

    Raises:
        InvalidModelFolder: it has no weights.
        UnsafeWeights: it has only pickled ones.
        CorruptModel: the index is damaged or points outside the folder.
    """
    if (folder / SINGLE_FILE).is_file():
        return (SINGLE_FILE,)
    if not (folder / INDEX_FILE).is_file():
        raise _no_weights(folder)
    weight_map = read_json(folder / INDEX_FILE).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise CorruptModel(f"{folder / INDEX_FILE} lists no usable files. Download it again.")
    return tuple(sorted(names))


def folder_revision(folder: Path, weights: Weights) -> str:
    """An identity of the model in a folder, without reading its weights.

    A hash over the content of its configuration and tokenizer files and, of each weight file,
    the name, size, time of change and safetensors head. A copy of the folder may get another one.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in DESCRIBING_SUFFIXES and path.is_file():
            _add(digest, path.name.encode(), path.read_bytes())
    for path in weights.files:
        status = path.stat()
        about = f"{path.name} {status.st_size} {status.st_mtime_ns}"
        _add(digest, about.encode(), _read_head(path))
    return f"folder-sha256-{digest.hexdigest()}"


def _add(digest: "hashlib._Hash", *parts: bytes) -> None:
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)


def _no_weights(folder: Path) -> InvalidModelFolder | UnsafeWeights:
    pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLE_SUFFIXES)
    if not pickles:
        return InvalidModelFolder(
            f"{folder} has no weights: neither {SINGLE_FILE} nor {INDEX_FILE} is there. "
            "Download the model again, or save it with `save_pretrained`."
        )
    return UnsafeWeights(
        f"{folder} has its weights only as a pickle ({pickles[0].name}), which can run any code "
        "when it is loaded. If you trust where it comes from, convert it once: "
        '`python -c "from transformers import AutoModelForCausalLM as M; '
        f"M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}')\"`."
    )


def _tensors(path: Path) -> Iterable[tuple[str, int, int]]:
    """The type, number of values and number of bytes of each tensor."""
    head = _read_head(path)
    data_bytes = path.stat().st_size - len(head) - 8
    end_of_data = 0
    try:
        for name, entry in json.loads(head).items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            end_of_data = max(end_of_data, end)
            num_values = 1
            for size in entry["shape"]:
                num_values *= size
            yield str(entry["dtype"]), num_values, end - start
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptModel(f"{path} is not a safetensors file. Download it again.") from error
    if end_of_data != data_bytes:
        raise CorruptModel(
            f"{path} is cut short or damaged: {data_bytes:,} bytes of tensors, {end_of_data:,} "
            "announced. Download it again."
        )


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        prefix = file.read(8)
        num_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if 0 < num_bytes <= _MAX_HEADER_BYTES:
            head = file.read(num_bytes)
            if len(head) == num_bytes:
                return head
    raise CorruptModel(f"{path} is not a safetensors file. Download it again.")
