"""The bytes that a token stands for, as tokenizers write them in their vocabularies.

Needed where half characters must be told apart; `TextCodec` calls it. Three spellings are known:
GPT-2's, in which each byte is one printable character (`bytes_to_unicode` of its encoder), a byte
in angle brackets (SentencePiece's byte fallback), and a space as U+2581 (SentencePiece).
"""

import re
from functools import cache

UNDECODABLE = "\ufffd"  # what decoders write for bytes that are no character, or not yet one
FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
SPACE = "\u2581"


def token_bytes(piece: str, text: str) -> bytes:
    """The bytes of a token that its vocabulary spells `piece` and its decoder, alone, `text`."""
    if UNDECODABLE not in text:
        is_cut = piece.startswith(SPACE) and not text.startswith(" ")
        return (" " + text if is_cut else text).encode()
    fallback = FALLBACK.fullmatch(piece)
    if fallback is not None:
        return bytes.fromhex(fallback[1])
    alphabet = _byte_alphabet()
    if all(character in alphabet for character in piece):
        return bytes(alphabet[character] for character in piece)
    return text.encode()


@cache
def _byte_alphabet() -> dict[str, int]:
    """Each byte by its character: itself if that is printable, else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + at): byte for at, byte in enumerate(others)
    }
