"""The name of an answer that replicas share: a digest of everything that decides it.

Two replicas find each other's answers only if the model, the request, the key's owner, the
software that computes and the kind of machine are the same. Nothing of the prompt can be read off
a digest; with a secret nobody without it can even check a guess.
"""

import hashlib
import hmac
import platform
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version

import msgspec

from app.generation.cache_key import CacheKey

FORMAT = 1  # of what is hashed; another one finds no older answers
# What decides tokens and text besides the model. Another version may round or spell otherwise.
COMPUTING_PACKAGES = (
    *("beamline", "torch", "onnxruntime", "transformers", "tokenizers", "llguidance"),
)


class KeyDigest:
    """Names answers. Never changes."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret
        self._computed_by = (
            platform.machine(),
            *(_version(package) for package in COMPUTING_PACKAGES),
        )

    def __call__(self, key: CacheKey) -> bytes:
        """32 bytes that only this key has."""
        whole = msgspec.msgpack.encode((FORMAT, self._computed_by, _plain(key)))
        return seal(self._secret, b"key", whole)


def seal(secret: bytes | None, purpose: bytes, *parts: bytes) -> bytes:
    """SHA-256 over all parts, keyed where there is a secret. Each `purpose` has hashes of its own.

    The parts' borders do not count: all but one are of fixed length.
    """
    start = hashlib.sha256() if secret is None else hmac.new(secret, digestmod=hashlib.sha256)
    start.update(b"beamline answers:" + purpose + b":")
    for part in parts:
        start.update(part)
    return start.digest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # of a build under another name, or not used here
        return None


def _plain(value: object) -> object:
    """The same with names for types: equal keys give the same, and different ones do not.

    Fields that do not count when keys are compared do not count here.
    """
    if value is None or isinstance(value, bool | int | float | bytes):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")  # stop strings may hold half characters
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        compared = [field.name for field in fields(value) if field.compare]
        return [type(value).__name__, *((name, _plain(getattr(value, name))) for name in compared)]
    raise TypeError(f"a cache key holds a {type(value).__name__}, which has no plain form")
