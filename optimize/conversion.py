"""Converts a GGUF file once and keeps the result. Called by `prepare`.

A result is a folder named after the file, its content and the converter's version; it appears by
one atomic rename, so it is whole or absent. Starting processes that find it use it without any
lock; the others queue up for one lock a cache folder, which the system frees when its holder
dies, so the first holder afterwards also knows that every unfinished folder is a dead one's.
What happens inside a conversion is `gguf_conversion`'s; this file imports no torch.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from optimize.errors import CacheUnusable, CorruptModel
from optimize.fingerprint import file_sha256, write_json
from optimize.gguf_header import GgufHeader
from optimize.memory import require_conversion
from optimize.model_folder import read_json
from optimize.report import Progress, Report, stage

CONVERTER_VERSION = 1  # raise it when the same GGUF file would give another folder
MANIFEST_FILE = "beamline.json"
_BYTES_PER_VALUE = 4  # results are float32: exactly what the file's blocks stand for
_UNFINISHED = ".unfinished-"

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
    try:
        digest = file_sha256(
            file, cache_folder / "hashes", stage(progress, "reading the GGUF file")
        )
        folder = cache_folder / "converted" / _folder_name(file, digest)
        if not is_finished(folder):
            _convert_locked(file, header, folder, convert, progress)
    except OSError as error:
        raise CacheUnusable(
            f"cannot keep converted models in {cache_folder} ({error}). Choose a cache folder "
            "that can be written."
        ) from error
    revision = f"gguf-sha256-{digest}-v{CONVERTER_VERSION}"
    return ConvertedModel(folder=folder, revision=revision)


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a whole conversion: all files of its manifest, in their sizes."""
    try:
        files = read_json(folder / MANIFEST_FILE).get("files")
    except (OSError, CorruptModel):
        return False
    if not isinstance(files, dict) or not files:
        return False
    return all(_size(folder / name) == size for name, size in files.items())


def _folder_name(file: Path, digest: str) -> str:
    stem = re.sub(r"[^\w.-]+", "-", file.stem)[:80]
    return f"{stem}-{digest[:16]}-v{CONVERTER_VERSION}"


def _convert_locked(
    file: Path, header: GgufHeader, folder: Path, convert: Convert, progress: Progress
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_converter(folder.parent, progress):
        if is_finished(folder):
            return
        _remove_leftovers(folder.parent)
        num_bytes = header.num_parameters * _BYTES_PER_VALUE
        require_conversion(file.stem, folder.parent, num_bytes=num_bytes)
        _convert_into(file, header, folder, convert, stage(progress, "converting (only once)"))


@contextmanager
def _only_converter(parent: Path, progress: Progress) -> Iterator[None]:
    lock = FileLock(parent / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress("waiting for another process that is converting", 0.0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _convert_into(
    file: Path, header: GgufHeader, folder: Path, convert: Convert, report: Report
) -> None:
    unfinished = folder.parent / f"{_UNFINISHED}{uuid.uuid4().hex}"
    unfinished.mkdir()
    try:
        convert(file, header, unfinished, report)
        write_json(unfinished / MANIFEST_FILE, _manifest(unfinished, file))
        _publish(unfinished)
        if folder.exists():  # damaged, else it would have been used
            folder.rename(Path(f"{unfinished}-damaged"))
        os.replace(unfinished, folder)
        report(1.0)
    finally:
        _remove_leftovers(folder.parent)


def _manifest(folder: Path, file: Path) -> dict[str, object]:
    return {
        "converter_version": CONVERTER_VERSION,
        "source": str(file),
        "transformers_version": metadata.version("transformers"),
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }


def _publish(folder: Path) -> None:
    """Make the files readable by all, since an image may convert as one user and serve as another.

    Also forces them to the disk before the rename makes them count as finished.
    """
    for path in folder.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    folder.chmod(0o755)


def _remove_leftovers(parent: Path) -> None:
    """Delete unfinished folders. Only for the holder of the lock: then none is being written."""
    for path in parent.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
