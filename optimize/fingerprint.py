"""The content hash of a big file, computed once and remembered. Called by `conversion`.

The memory is one small JSON file a source path in the cache folder, good for as long as the
path's size, time of change and inode stay the same. Written by atomic rename, so processes that
hash the same file at once do no harm. Losing it costs one more hashing.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CHUNK_BYTES = 8 * 1024**2


def file_sha256(path: Path, memory_folder: Path, report: Callable[[float], None]) -> str:
    """The SHA-256 of the file at `path` in hex, from memory where the file has not changed.

    Args:
        path: the file, absolute.
        memory_folder: where hashes are remembered; made if absent.
        report: told the fraction done, from 0 to 1, while hashing.
    """
    memory = memory_folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    state = _state(path)
    known = _recall(memory, state)
    if known is not None:
        return known
    digest = _hash(path, report)
    if _state(path) == state:  # else it changed while it was read: do not remember
        with suppress(OSError):  # a read-only cache is fine as long as it holds the conversion
            memory_folder.mkdir(parents=True, exist_ok=True)
            write_json(memory, {**state, "sha256": digest})
    return digest


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write a small JSON file that readers see whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _state(path: Path) -> dict[str, object]:
    status = path.stat()
    return {
        "path": str(path),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "inode": status.st_ino,
    }


def _recall(memory: Path, state: dict[str, object]) -> str | None:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(known, dict) or any(known.get(key) != state[key] for key in state):
        return None
    digest = known.get("sha256")
    return digest if isinstance(digest, str) else None


def _hash(path: Path, report: Callable[[float], None]) -> str:
    digest, size, done = hashlib.sha256(), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            report(min(done / max(size, 1), 1.0))
    return digest.hexdigest()
