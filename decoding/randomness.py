"""Randomness without state: one uniform number for each (seed, sequence index, position).

Because a draw depends on nothing else, neither batching nor preemption nor a neighbour's draws
can change it. BLAKE2b serves as the counter-based generator: well studied, in the standard
library, and about a microsecond a draw.
"""

import hashlib
import struct

_KEY = struct.Struct("<QQQ")


def uniform(seed: int, index: int, position: int, *, purpose: bytes = b"") -> float:
    """A number in [0, 1) with 53 random bits; each argument is an integer in [0, 2**64).

    Numbers for different purposes, of at most 16 bytes, have nothing to do with each other.
    """
    key = _KEY.pack(seed, index, position)
    digest = hashlib.blake2b(key, digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def stream_key(seed: int, index: int, position: int) -> int:
    """64 random bits that begin a stream of numbers, unrelated to `uniform` of the same place."""
    key = _KEY.pack(seed, index, position)
    digest = hashlib.blake2b(key, digest_size=8, person=b"stream").digest()
    return int.from_bytes(digest, "little", signed=True)
