"""An answer as bytes that prove themselves, and back.

    magic, version, generation, key's digest, lengths packed and unpacked, seal | zlib(MessagePack)

The seal is a SHA-256 over all the rest, keyed where there is a secret. So an entry that was cut,
changed, or copied from another key is found out, and with a secret so is one that somebody forged
who can write to Redis. No pickle: reading an entry makes plain data of known types, and of bounded
size.
"""

import hmac
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from app.generation.completion import Completed
from app.generation.shared_cache.digest import seal

MAGIC = b"BLRC"
VERSION = 1
GENERATION_BYTES = 16
HEAD = struct.Struct(f">4sB{GENERATION_BYTES}s32sII")
SEAL_BYTES = 32
FRAME_BYTES = HEAD.size + SEAL_BYTES
COMPRESSION = 1  # numbers hardly compress better at higher ones, which take longer
MAX_EXPANSION = 16  # unpacked, an entry is at most so many times the largest that may be stored


class Fault(StrEnum):
    """What is wrong with bytes that should be an entry."""

    WRONG_TYPE = "wrong_type"  # no string of Redis
    OVERSIZE = "oversize"
    TRUNCATED = "truncated"
    FOREIGN = "foreign"  # no entry of ours, or of another format or key
    SEAL = "seal"  # changed, or sealed with another secret
    UNREADABLE = "unreadable"  # sealed, and still no answer


class BadEntry(ValueError):
    """These bytes are not the answer that is looked for; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"a damaged entry: {fault}")
        self.fault = fault


class EntryTooLarge(ValueError):
    """An answer is larger than may be stored."""


@dataclass(frozen=True, slots=True)
class _Head:
    generation: bytes
    digest: bytes
    num_packed: int
    num_unpacked: int


class EntryFormat:
    """Writes and reads entries. Never changes; safe to use from any thread."""

    def __init__(self, *, secret: bytes | None, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._secret = secret
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Completed)

    def encode(self, completed: Completed, *, digest: bytes, generation: bytes) -> bytes:
        """The entry of an answer.

        Raises:
            EntryTooLarge: it takes more than `max_bytes`.
        """
        unpacked = self._encoder.encode(completed)
        if len(unpacked) > self.max_bytes * MAX_EXPANSION:
            raise EntryTooLarge
        packed = zlib.compress(unpacked, COMPRESSION)
        if FRAME_BYTES + len(packed) > self.max_bytes:
            raise EntryTooLarge
        head = HEAD.pack(MAGIC, VERSION, generation, digest, len(packed), len(unpacked))
        return b"".join((head, seal(self._secret, b"entry", head, packed), packed))

    def decode(self, entry: bytes, *, digest: bytes, generation: bytes) -> Completed | None:
        """The answer of this key; None: it was stored before the cache was cleared.

        Raises:
            BadEntry: it is not one that we stored under this key.
        """
        if len(entry) > self.max_bytes:
            raise BadEntry(Fault.OVERSIZE)
        head = _read_head(entry)
        packed = entry[FRAME_BYTES:]
        if not hmac.compare_digest(head.digest, digest):
            raise BadEntry(Fault.FOREIGN)
        if len(packed) != head.num_packed:
            raise BadEntry(Fault.TRUNCATED)
        expected = seal(self._secret, b"entry", entry[: HEAD.size], packed)
        if not hmac.compare_digest(expected, entry[HEAD.size : FRAME_BYTES]):
            raise BadEntry(Fault.SEAL)
        if head.generation != generation:
            return None
        return self._unpack(packed, head.num_unpacked)

    def _unpack(self, packed: bytes, num_unpacked: int) -> Completed:
        """Without a secret anybody can seal an entry: a bomb is to stop at the stated size."""
        if num_unpacked > self.max_bytes * MAX_EXPANSION:
            raise BadEntry(Fault.OVERSIZE)
        unpacker = zlib.decompressobj()
        try:
            unpacked = unpacker.decompress(packed, num_unpacked + 1)
            if len(unpacked) != num_unpacked or not unpacker.eof or unpacker.unused_data:
                raise BadEntry(Fault.UNREADABLE)
            return self._decoder.decode(unpacked)
        except (zlib.error, msgspec.DecodeError) as error:
            raise BadEntry(Fault.UNREADABLE) from error


def _read_head(entry: bytes) -> _Head:
    if not entry.startswith(MAGIC):
        raise BadEntry(Fault.FOREIGN)
    if len(entry) < FRAME_BYTES:
        raise BadEntry(Fault.TRUNCATED)
    _, version, *rest = HEAD.unpack_from(entry)
    if version != VERSION:
        raise BadEntry(Fault.FOREIGN)
    return _Head(*rest)
