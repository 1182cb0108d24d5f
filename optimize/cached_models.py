"""What the cache folder holds: converted and exported models, and what else is kept there.

Lists, notes uses, removes. Used by `beamline models`; loaders call `note_use`. A use is kept as the
time of change of a folder's manifest, whose content no use changes. Imports no torch.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock

from optimize.errors import CorruptModel
from optimize.made_once import MANIFEST_FILE, UNFINISHED, is_finished
from optimize.model_folder import read_json

MODELS = ("converted", "onnx")  # folders of the cache
OTHERS = ("operators", "compiled", "hashes")


class EntryKind(StrEnum):
    """What an entry is."""

    CONVERSION = "conversion"  # a GGUF file as a transformers folder
    EXPORT = "export"  # for ONNX Runtime
    REFUSAL = "refusal"  # why a model cannot be exported
    UNFINISHED = "unfinished"  # of a process that was killed, or is at it now


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """One entry of the cache."""

    path: Path
    kind: EntryKind
    source: str | None  # what it was made from
    scheme: str | None  # how an export keeps its weights
    num_bytes: int
    used_at: float  # seconds since 1970

    @property
    def name(self) -> str:
        """What to call it."""
        return self.path.name


def list_cached(cache_folder: Path) -> list[CachedModel]:
    """The models in the cache, last used first."""
    found = [
        _read(path)
        for folder in MODELS
        for path in _inside(cache_folder / folder)
        if path.name != ".lock"
    ]
    return sorted(found, key=lambda entry: (-entry.used_at, entry.name))


def other_bytes(cache_folder: Path) -> dict[str, int]:
    """What the rest of the cache takes, by kind: compiled operators and layers, hashes of files."""
    return {kind: sum(_size(path) for path in _inside(cache_folder / kind)) for kind in OTHERS}


def note_use(folder: Path) -> None:
    """Note that a model of the cache is used now; nothing where the cache is read-only."""
    with suppress(OSError):
        os.utime(folder / MANIFEST_FILE)


def remove_cached(entry: CachedModel) -> None:
    """Delete an entry, at once for whoever looks for it; who has it open keeps it.

    Raises:
        OSError: it cannot be deleted.
    """
    with FileLock(entry.path.parent / ".lock"):  # as long as nobody makes one
        if not entry.path.is_dir():
            entry.path.unlink(missing_ok=True)
            return
        dead = entry.path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        entry.path.rename(dead)
        shutil.rmtree(dead)


def is_older(entry: CachedModel, days: float) -> bool:
    """Whether the entry was not used for so many days."""
    return time.time() - entry.used_at > days * 86_400


def _read(path: Path) -> CachedModel:
    manifest: dict[str, object] = {}
    if path.is_dir():
        with suppress(OSError, CorruptModel):
            manifest = dict(read_json(path / MANIFEST_FILE))
    source, scheme = manifest.get("source"), manifest.get("scheme")
    file = path / MANIFEST_FILE if manifest else path
    return CachedModel(
        path=path,
        kind=_kind(path),
        source=_source_name(source),
        scheme=None if scheme is None else str(scheme),
        num_bytes=_size(path),
        used_at=file.stat().st_mtime,
    )


def _kind(path: Path) -> EntryKind:
    if path.name.startswith(UNFINISHED) or (path.is_dir() and not is_finished(path)):
        return EntryKind.UNFINISHED
    if not path.is_dir():
        return EntryKind.REFUSAL
    return EntryKind.EXPORT if path.parent.name == "onnx" else EntryKind.CONVERSION


def _source_name(source: object) -> str | None:
    """What the model was ordered as; None in a manifest stands for the embedded default."""
    if source is None:
        return None
    return "embedded default" if source == "None" else str(source)


def _inside(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
