"""Converts a GGUF file once and keeps the result. Called by `prepare`.

A result is a folder named after the file, its content and the converter's version; how it is made
only once is `made_once`'s. What happens inside a conversion is `gguf_conversion`'s; this file
imports no torch.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from optimize.cached_models import note_use
from optimize.errors import CacheUnusable
from optimize.fingerprint import file_sha256
from optimize.gguf_header import GgufHeader
from optimize.made_once import is_finished, make_once
from optimize.memory import require_conversion
from optimize.report import Progress, Report, stage

__all__ = ["ConvertedModel", "convert_once", "gguf_revision", "is_finished", "unusable"]

CONVERTER_VERSION = 1  # raise it when the same GGUF file would give another folder
_BYTES_PER_VALUE = 4  # results are float32: exactly what the file's blocks stand for

Convert = Callable[[Path, GgufHeader, Path, Report], None]
"""Writes the model in a GGUF file into an empty folder, in transformers' format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedModel:
    """A finished conversion."""

    folder: Path
    revision: str  # the GGUF file's SHA-256 and the converter's version


def convert_once(
    file: Path, header: GgufHeader, *, cache_folder: Path, convert: Convert, progress: Progress
) -> ConvertedModel:
    """The converted model of a GGUF file, made now if no earlier start has made it.

    Raises:
        CacheUnusable: the cache folder cannot be written or its disk is too small.
        NotEnoughMemory: converting would not fit into main memory.
        ConversionFailed: `convert` could not read the file; nothing is left behind.
    """
    digest = _digest(file, cache_folder, progress)
    folder = cache_folder / "converted" / _folder_name(file, digest)

    def make(unfinished: Path) -> None:
        report = stage(progress, "converting (only once)")
        num_bytes = header.num_parameters * _BYTES_PER_VALUE
        require_conversion(file.stem, folder.parent, num_bytes=num_bytes)
        convert(file, header, unfinished, report)
        report(1.0)

    about = {
        "converter_version": CONVERTER_VERSION,
        "source": str(file),
        "transformers_version": metadata.version("transformers"),
    }
    try:
        make_once(folder, make, about=about, progress=progress)
    except OSError as error:
        raise unusable(cache_folder, error) from error
    note_use(folder)
    return ConvertedModel(folder=folder, revision=_revision(digest))


def gguf_revision(file: Path, *, cache_folder: Path, progress: Progress) -> str:
    """The identity of a GGUF file's weights, known without converting them.

    Raises:
        CacheUnusable: the file's hash cannot be computed or remembered.
    """
    return _revision(_digest(file, cache_folder, progress))


def unusable(cache_folder: Path, error: OSError) -> CacheUnusable:
    """What a failure to read or write there is for the caller."""
    return CacheUnusable(
        f"cannot keep converted models in {cache_folder} ({error}). Choose a cache folder "
        "that can be written."
    )


def _digest(file: Path, cache_folder: Path, progress: Progress) -> str:
    try:
        return file_sha256(file, cache_folder / "hashes", stage(progress, "reading the GGUF file"))
    except OSError as error:
        raise unusable(cache_folder, error) from error


def _revision(digest: str) -> str:
    return f"gguf-sha256-{digest}-v{CONVERTER_VERSION}"


def _folder_name(file: Path, digest: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", file.stem)[:80]
    return f"{stem}-{digest[:16]}-v{CONVERTER_VERSION}"
