"""The file that API keys are kept in: JSON, with hashes in place of the keys.

`beamline keys` writes it, `key_store.py` reads it, people and deployment tools may edit it.
Whatever is wrong with it is an error that names the entry; nothing in it is passed over.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import Field, ValidationError, field_validator

from app.access.keys import VALID_NAME, ApiKey, RateLimits
from app.access.scopes import Scope
from app.bodies.strict_model import StrictModel

MAX_KEYS = 1000  # each may have series of its own in the metrics
MAX_PER_MINUTE = 1_000_000_000
OWNER_ONLY = 0o600

PerMinute = Annotated[int, Field(ge=1, le=MAX_PER_MINUTE)] | Literal["unlimited"]


class KeyFileError(ValueError):
    """The file cannot be read or written; the message says where and why."""


class KeyEntry(StrictModel):
    """One key. A limit that is left out is the server's default."""

    name: Annotated[str, Field(pattern=f"^{VALID_NAME.pattern}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    created_at: datetime | None = None

    def as_key(self, defaults: RateLimits) -> ApiKey:
        """The key, with the server's defaults where it has no limit of its own."""
        return ApiKey(
            name=self.name,
            digest=bytes.fromhex(self.sha256),
            scopes=frozenset(self.scopes),
            limits=RateLimits(
                requests_per_minute=_limit(self.requests_per_minute, defaults.requests_per_minute),
                tokens_per_minute=_limit(self.tokens_per_minute, defaults.tokens_per_minute),
            ),
        )


class KeyFile(StrictModel):
    """All keys, in the order in which they were added."""

    version: Literal[1] = 1
    keys: Annotated[list[KeyEntry], Field(max_length=MAX_KEYS)] = Field(default_factory=list)

    @field_validator("keys")
    @classmethod
    def _are_different(cls, keys: list[KeyEntry]) -> list[KeyEntry]:
        _check_unique("name", [entry.name for entry in keys])
        _check_unique("sha256", [entry.sha256 for entry in keys])
        return keys

    def with_key(self, entry: KeyEntry) -> "KeyFile":
        """The same with one more.

        Raises:
            KeyFileError: the name is taken, or there are too many.
        """
        if any(entry.name == other.name for other in self.keys):
            raise KeyFileError(f"there is a key named {entry.name} already; choose another name")
        if len(self.keys) >= MAX_KEYS:
            raise KeyFileError(f"there are {MAX_KEYS} keys already; revoke one first")
        return KeyFile(keys=[*self.keys, entry])

    def without_key(self, name: str) -> "KeyFile":
        """The same without one.

        Raises:
            KeyFileError: there is no key of this name.
        """
        kept = [entry for entry in self.keys if entry.name != name]
        if len(kept) == len(self.keys):
            raise KeyFileError(f"there is no key named {name}; `beamline keys list` shows them")
        return KeyFile(keys=kept)


def read_key_file(path: Path) -> KeyFile:
    """The keys in a file.

    Raises:
        KeyFileError: it cannot be read, or holds something else.
    """
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = f"{error.strerror}; `beamline keys add` makes it"
        raise KeyFileError(f"cannot read the keys in {path}: {reason}") from error
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_context=False, include_input=False)
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KeyFileError(f"the keys in {path} are unusable: {place}: {first['msg']}") from error


def write_key_file(path: Path, keys: KeyFile) -> None:
    """Replace a file's keys in one go: a server that reads meanwhile sees the old or the new.

    Raises:
        KeyFileError: it cannot be written.
    """
    text = json.dumps(keys.model_dump(mode="json", exclude_none=True), indent=2) + "\n"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by whoever reads a key file in order to write it.

    Raises:
        KeyFileError: nothing can be written beside it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _limit(own: int | Literal["unlimited"] | None, default: int | None) -> int | None:
    if own is None:
        return default
    return own if isinstance(own, int) else None


def _check_unique(field: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{field} {twice[0]} is there twice")
