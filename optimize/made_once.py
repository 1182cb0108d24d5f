"""A folder that is made once, by whoever comes first, and then only read. Used by conversions.

It appears by one atomic rename, so it is whole or absent; its manifest lists its files. Starting
processes that find it use it without any lock; the others queue up for one lock in the folder
around it, which the system frees when its holder dies, so the first holder afterwards also knows
that every unfinished folder is a dead one's. What is made, and under which name, is the caller's.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from optimize.errors import CorruptModel
from optimize.fingerprint import write_json
from optimize.model_folder import read_json
from optimize.report import Progress

MANIFEST_FILE = "beamline.json"
UNFINISHED = ".unfinished-"  # what names of folders begin with that are being made, or are dead

Make = Callable[[Path], None]
"""Writes the content into an empty folder. What it raises leaves nothing behind."""


def make_once(folder: Path, make: Make, *, about: Mapping[str, object], progress: Progress) -> None:
    """Have `folder` made if it is not finished yet; wait where another process is making it.

    Args:
        folder: where the result will be.
        make: writes it, into another folder that is renamed when all is written.
        about: what the manifest says besides the files.
        progress: told when this process has to wait.

    Raises:
        OSError: the folder around it cannot be written.
    """
    if is_finished(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_maker(folder.parent, progress):
        if not is_finished(folder):
            _remove_leftovers(folder.parent)
            _make(folder, make, about)


def is_finished(folder: Path) -> bool:
    """Whether the folder is whole: all files of its manifest are there, in their sizes."""
    try:
        files = read_json(folder / MANIFEST_FILE).get("files")
    except (OSError, CorruptModel):
        return False
    if not isinstance(files, dict) or not files:
        return False
    return all(_size(folder / name) == size for name, size in files.items())


@contextmanager
def _only_maker(parent: Path, progress: Progress) -> Iterator[None]:
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


def _make(folder: Path, make: Make, about: Mapping[str, object]) -> None:
    unfinished = folder.parent / f"{UNFINISHED}{uuid.uuid4().hex}"
    unfinished.mkdir()
    try:
        make(unfinished)
        files = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
        write_json(unfinished / MANIFEST_FILE, {**about, "files": files})
        _publish(unfinished)
        if folder.exists():  # damaged, else it would have been used
            folder.rename(Path(f"{unfinished}-damaged"))
        os.replace(unfinished, folder)
    finally:
        _remove_leftovers(folder.parent)


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
    for path in parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
