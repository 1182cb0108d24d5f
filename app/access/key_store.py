"""The keys that count now: those of the settings, and those of the file as it is on disk.

The file is looked at again at most once a second, so a key that is added or revoked takes effect
without a restart. A file that has become unreadable changes nothing: the last good keys stay, and
the log says so, since neither locking everybody out nor letting anybody in would be right.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from app.access.key_file import KeyFileError, read_key_file
from app.access.keys import ApiKey, Keyring, RateLimits

CHECK_SECONDS = 1.0

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class KeyStore:
    """Follows one file. Used on the event loop only, and its only writer."""

    def __init__(
        self,
        *,
        fixed: Sequence[ApiKey],
        path: Path | None,
        defaults: RateLimits,
        clock: Callable[[], float],
    ) -> None:
        self._fixed = fixed
        self._path = path
        self._defaults = defaults
        self._clock = clock
        self._stamp: _Stamp | None = None
        self._checked_at = clock()
        self._keyring = Keyring(fixed)

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            KeyFileError: it cannot be read, or a name or key is used twice.
        """
        if self._path is not None:
            self._stamp = _stamp(self._path)
            self._read(self._path)

    def keyring(self) -> Keyring:
        """The keys as they are now, give or take a second."""
        now = self._clock()
        if self._path is not None and now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._follow(self._path)
        return self._keyring

    def _follow(self, path: Path) -> None:
        stamp = _stamp(path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            num_keys = self._read(path)
        except KeyFileError as error:
            logger.error("%s; the keys stay as they were", error)  # noqa: TRY400
        else:
            logger.info("read %d API keys from %s", num_keys, path)

    def _read(self, path: Path) -> int:
        keys = [entry.as_key(self._defaults) for entry in read_key_file(path).keys]
        taken = {key.name for key in self._fixed} & {key.name for key in keys}
        if taken:
            raise KeyFileError(
                f"the keys in {path} are unusable: {min(taken)} is the name of a key that was "
                "given by the environment; choose another"
            )
        self._keyring = Keyring([*self._fixed, *keys])
        return len(keys)


def _stamp(path: Path) -> _Stamp | None:
    """What changes whenever the file does; None if there is no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
