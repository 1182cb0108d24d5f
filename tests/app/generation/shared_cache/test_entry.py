"""Entries come back as they went in, and whatever is not the entry that is looked for is none."""

import struct
import zlib
from dataclasses import fields

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generation.completion import Completed, FinishedText
from app.generation.shared_cache.digest import seal
from app.generation.shared_cache.entry import (
    FRAME_BYTES,
    HEAD,
    MAGIC,
    MAX_EXPANSION,
    VERSION,
    BadEntry,
    EntryFormat,
    EntryTooLarge,
    Fault,
)
from engine.trace import Trace
from tests.app.generation.shared_cache.answers import answer, any_answer

DIGEST, GENERATION = b"d" * 32, b"g" * 16
SECRET = b"a secret that replicas share, only they"
PLAIN = EntryFormat(secret=None, max_bytes=2**20)
KEYED = EntryFormat(secret=SECRET, max_bytes=2**20)


def encode(completed, entries=PLAIN, **changed):
    return entries.encode(completed, **{"digest": DIGEST, "generation": GENERATION} | changed)


def decode(entry, entries=PLAIN, **changed):
    return entries.decode(entry, **{"digest": DIGEST, "generation": GENERATION} | changed)


def fault_of(entry, entries=PLAIN, **changed):
    with pytest.raises(BadEntry) as caught:
        decode(entry, entries, **changed)
    return caught.value.fault


def sealed(packed, num_unpacked, *, version=VERSION, secret=None):
    """An entry as somebody writes it who knows the format."""
    head = HEAD.pack(MAGIC, version, GENERATION, DIGEST, len(packed), num_unpacked)
    return head + seal(secret, b"entry", head, packed) + packed


@given(completed=any_answer, entries=st.sampled_from([PLAIN, KEYED]))
def test_an_answer_comes_back_as_it_went_in(completed, entries):
    back = decode(encode(completed, entries), entries)
    assert back == completed
    assert repr(back) == repr(completed)  # types as well: 0 is equal to 0.0 and to False


def test_the_answers_that_are_tried_have_every_field():
    """So that a field which an answer gets some day is stored as well, or found missing here."""
    known = {
        Completed: {"sequences", "seed", "timings", "prompt_scores", "trace"},
        FinishedText: {
            *("text", "token_ids", "logprobs", "finish_reason", "score", "alternatives"),
        },
        Trace: {"steps", "ends", "is_truncated"},
    }
    for kind, names in known.items():
        assert {field.name for field in fields(kind)} == names


@given(data=st.data(), completed=any_answer, entries=st.sampled_from([PLAIN, KEYED]))
def test_no_changed_byte_goes_unnoticed(data, completed, entries):
    entry = bytearray(encode(completed, entries))
    place = data.draw(st.integers(0, len(entry) - 1))
    entry[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadEntry):
        decode(bytes(entry), entries)


@given(data=st.data(), completed=any_answer)
def test_no_missing_or_added_end_goes_unnoticed(data, completed):
    entry = encode(completed)
    length = data.draw(st.integers(0, len(entry) - 1))
    assert fault_of(entry[:length]) in (Fault.TRUNCATED, Fault.FOREIGN)
    assert fault_of(entry + data.draw(st.binary(min_size=1))) is Fault.TRUNCATED


@given(rubbish=st.binary())
def test_rubbish_is_foreign(rubbish):
    assert fault_of(b"x" + rubbish) is Fault.FOREIGN


def test_what_was_stored_under_another_key_is_foreign():
    assert fault_of(encode(answer(), digest=b"e" * 32)) is Fault.FOREIGN


def test_what_was_stored_before_the_cache_was_cleared_is_a_miss():
    assert decode(encode(answer(), generation=b"h" * 16)) is None


def test_generation_cannot_be_rewritten():
    entry = encode(answer(), generation=b"h" * 16)
    assert fault_of(entry.replace(b"h" * 16, GENERATION)) is Fault.SEAL


def test_another_version_of_the_format_is_foreign():
    packed = zlib.compress(b"\x80")
    assert fault_of(sealed(packed, 1, version=VERSION + 1)) is Fault.FOREIGN


def test_without_the_secret_nobody_can_seal_an_entry():
    unpacked = msgspec.msgpack.encode(answer("forged"))
    packed = zlib.compress(unpacked)
    assert decode(sealed(packed, len(unpacked))) == answer("forged")
    assert decode(sealed(packed, len(unpacked), secret=SECRET), KEYED) == answer("forged")
    for secret in (None, b"another secret of the same length, guessed"):
        assert fault_of(sealed(packed, len(unpacked), secret=secret), KEYED) is Fault.SEAL


@pytest.mark.parametrize(
    "unpacked",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"sequences": []}),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode(answer()) + b"\x00",
        msgspec.msgpack.encode(msgspec.to_builtins(answer()) | {"seed": "0"}),
    ],
)
def test_what_is_sealed_and_no_answer_is_unreadable(unpacked):
    assert fault_of(sealed(zlib.compress(unpacked), len(unpacked))) is Fault.UNREADABLE


def test_what_is_sealed_and_not_packed_is_unreadable():
    assert fault_of(sealed(b"not zlib", 20)) is Fault.UNREADABLE
    packed = zlib.compress(msgspec.msgpack.encode(answer()))
    assert fault_of(sealed(packed[:-6], 20)) is Fault.UNREADABLE
    assert fault_of(sealed(packed + b"more", 20)) is Fault.UNREADABLE


def test_bomb_is_not_unpacked_beyond_the_size_that_it_states():
    bomb = zlib.compress(bytes(200 * 2**20), 9)
    assert len(bomb) < PLAIN.max_bytes
    assert fault_of(sealed(bomb, 200 * 2**20)) is Fault.OVERSIZE
    assert fault_of(sealed(bomb, 100)) is Fault.UNREADABLE


def test_nothing_larger_than_allowed_is_written_or_read():
    small = EntryFormat(secret=None, max_bytes=FRAME_BYTES + 300)
    large = answer(num_tokens=200)
    with pytest.raises(EntryTooLarge):
        encode(large, small)
    assert fault_of(encode(large), small) is Fault.OVERSIZE
    with pytest.raises(EntryTooLarge):  # packed it would fit, and unpacked nobody would take it
        encode(answer("x" * (MAX_EXPANSION * small.max_bytes)), small)
    assert decode(encode(answer(), small), small) == answer()


def test_head_is_as_the_docstring_says():
    entry = encode(answer())
    assert entry[:4] == b"BLRC"
    assert entry[4] == VERSION
    assert entry[5:21] == GENERATION
    assert entry[21:53] == DIGEST
    assert struct.unpack(">I", entry[53:57])[0] == len(entry) - FRAME_BYTES
