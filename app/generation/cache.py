"""The response cache: finished answers, least recently used out first. Lives on the event loop.

`TextGenerator` decides what may be kept and under which key; this file only keeps it, within a
number of entries and a number of bytes. It never holds errors or unfinished answers.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass, fields, is_dataclass

from app.generation.cache_key import CacheKey
from app.generation.completion import Completed

LINK_BYTES = 200  # what the ordered dict and the entry itself add, measured on CPython 3.11


@dataclass(frozen=True, slots=True)
class _Entry:
    completed: Completed
    num_bytes: int


class ResponseCache:
    """An LRU of answers. The event loop is its only user."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()
        self._num_bytes = 0

    @property
    def num_entries(self) -> int:
        """Answers held."""
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Memory they take, keys included."""
        return self._num_bytes

    def get(self, key: CacheKey) -> Completed | None:
        """The answer under `key`, which thereby becomes the most recently used."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.completed

    def put(self, key: CacheKey, completed: Completed) -> None:
        """Keep an answer, at the cost of those used least recently; not if it is too large."""
        self._drop(key)
        num_bytes = LINK_BYTES + size_of(key) + size_of(completed)
        if num_bytes > self._max_bytes:
            return
        self._entries[key] = _Entry(completed, num_bytes)
        self._num_bytes += num_bytes
        while len(self._entries) > self._max_entries or self._num_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget all answers."""
        self._entries.clear()
        self._num_bytes = 0

    def _drop(self, key: CacheKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._num_bytes -= entry.num_bytes


def size_of(value: object) -> int:
    """Bytes that a value of plain data holds, what it refers to included.

    Shared objects (small numbers, interned strings) count each time: an upper bound.
    """
    num_bytes = sys.getsizeof(value)
    if isinstance(value, tuple):
        return num_bytes + sum(size_of(item) for item in value)
    if is_dataclass(value):
        return num_bytes + sum(size_of(getattr(value, field.name)) for field in fields(value))
    return num_bytes
