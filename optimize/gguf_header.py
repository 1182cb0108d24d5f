"""Reads the head of a GGUF file: what model it holds and which tensors, none of their values.

Called by `check` before anything heavy is imported, so it takes milliseconds and needs no torch.
It checks every length against the size of the file: a truncated download is found here. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from optimize.errors import CorruptModel, UnsupportedModelFormat

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32  # bytes
_MAX_DIMENSIONS = 4
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9

Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A row of the tensor table."""

    name: str
    num_values: int
    num_bytes: int  # as stored, quantised
    offset: int  # bytes from the start of the data


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says of itself. Arrays (the vocabulary) are left out of `metadata`."""

    architecture: str
    metadata: Mapping[str, Value]
    tensors: tuple[GgufTensor, ...]

    @property
    def num_parameters(self) -> int:
        """Values in all tensors together."""
        return sum(tensor.num_values for tensor in self.tensors)

    def setting(self, key: str) -> Value | None:
        """The value of a key below the architecture's own prefix, such as `rope.scaling.type`."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the head of the file at `path`.

    Raises:
        CorruptModel: it is not a GGUF file, or it ends too early.
        UnsupportedModelFormat: a version or a tensor type that nothing here can read.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise CorruptModel(
                f"{path} is not a GGUF file: it does not start with 'GGUF'. For a transformers "
                "model give the folder that holds its config.json."
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(data, path)
            except (struct.error, UnicodeDecodeError) as error:
                raise CorruptModel(
                    f"{path} is cut short or damaged ({error}). Download it again."
                ) from error


def _read(data: mmap.mmap, path: Path) -> GgufHeader:
    cursor = _Cursor(data, len(_MAGIC))
    version = int(cursor.scalar("I"))
    if version not in _VERSIONS:
        raise UnsupportedModelFormat(
            f"{path} is GGUF version {version}; versions 2 and 3 can be read. "
            "Download a newer conversion of the model."
        )
    num_tensors, num_keys = int(cursor.scalar("Q")), int(cursor.scalar("Q"))
    metadata: dict[str, Value] = {}
    for _ in range(num_keys):
        key, value = cursor.string(), cursor.value()
        if value is not None:
            metadata[key] = value
    tensors = tuple(_read_tensor(cursor, path) for _ in range(num_tensors))
    alignment = _alignment(metadata)
    data_start = -(-cursor.position // alignment) * alignment
    end = data_start + max((tensor.offset + tensor.num_bytes for tensor in tensors), default=0)
    if end > len(data):
        raise CorruptModel(
            f"{path} is cut short: {len(data):,} bytes of {end:,}. Download it again."
        )
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not tensors:
        raise CorruptModel(f"{path} holds no model: it names no architecture or has no tensors.")
    return GgufHeader(architecture=architecture, metadata=metadata, tensors=tensors)


def _alignment(metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise struct.error(f"an alignment of {alignment!r}")
    return alignment


def _read_tensor(cursor: "_Cursor", path: Path) -> GgufTensor:
    name = cursor.string()
    num_dimensions = int(cursor.scalar("I"))
    if num_dimensions > _MAX_DIMENSIONS:
        raise struct.error(f"a tensor of {num_dimensions:,} dimensions")
    num_values = prod(int(cursor.scalar("Q")) for _ in range(num_dimensions))
    type_id, offset = int(cursor.scalar("I")), int(cursor.scalar("Q"))
    try:
        block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(type_id)]
    except (ValueError, KeyError):
        raise UnsupportedModelFormat(
            f"{path}: tensor {name!r} has the unknown GGML type {type_id}. "
            "Download the model in a common quantisation such as Q8_0 or Q4_K_M."
        ) from None
    return GgufTensor(name, num_values, num_values // block_values * block_bytes, offset)


class _Cursor:
    """Walks over the bytes; every step past the end raises `struct.error`."""

    def __init__(self, data: mmap.mmap, position: int) -> None:
        self._data = data
        self.position = position

    def scalar(self, code: str) -> int | float | bool:
        value: int | float | bool
        (value,) = struct.unpack_from(f"<{code}", self._data, self.position)
        self.position += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        start = self._skip(int(self.scalar("Q")))
        return self._data[start : self.position].decode()

    def value(self) -> Value | None:
        """The value at this place; None for an array, which is only stepped over."""
        kind = int(self.scalar("I"))
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        return self.scalar(_scalar_code(kind))

    def _skip_array(self) -> None:
        kind, count = int(self.scalar("I")), int(self.scalar("Q"))
        if kind != _STRING:
            self._skip(count * struct.calcsize(f"<{_scalar_code(kind)}"))
            return
        for _ in range(count):
            self._skip(int(self.scalar("Q")))

    def _skip(self, num_bytes: int) -> int:
        """Step over `num_bytes`; the place it started from."""
        start = self.position
        if start + num_bytes > len(self._data):
            raise struct.error(f"{num_bytes:,} bytes announced at {start:,} run past the end")
        self.position += num_bytes
        return start


def _scalar_code(kind: int) -> str:
    if kind not in _SCALARS:
        raise struct.error(f"unknown value type {kind}")
    return _SCALARS[kind]
