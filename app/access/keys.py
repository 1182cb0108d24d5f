"""API keys: how they are made, how they are kept, and how one is found.

A key is 256 random bits, and only its SHA-256 is kept. A slow hash such as Argon2 protects
passwords, which can be guessed; nobody guesses 256 bits, so a fast hash gives away as little and
does not make every request pay. Keys that people choose are held to a length for the same reason.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from app.access.scopes import Scope

SECRET_PREFIX = "sk-beamline-"  # lets scanners of code find a key that leaked into it
SECRET_BYTES = 32
VALID_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What a key may use in a minute; None: as much as it likes."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key without its secret. The name may be logged; it is what operators know it by."""

    name: str
    digest: bytes  # SHA-256 of the secret
    scopes: frozenset[Scope]
    limits: RateLimits


class Keyring:
    """Keys by what they hash to. Never changes."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.digest: key for key in keys}

    def find(self, secret: bytes) -> ApiKey | None:
        """The key whose secret this is.

        Takes the same time whatever the secret shares with a real one. The table is looked up by
        the hash of what was sent: to learn anything from how long that takes, one would have to
        choose hashes, not secrets. The comparison that decides is constant in time.
        """
        digest = digest_of(secret)
        key = self._keys.get(digest)
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None
        return key


def new_secret() -> str:
    """A key that nobody has had before."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest_of(secret: bytes) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret).digest()
