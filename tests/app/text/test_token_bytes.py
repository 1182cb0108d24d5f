"""The bytes of tokens, in each of the ways in which vocabularies spell them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.text.codec import TextCodec
from app.text.token_bytes import token_bytes

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd"), min_size=1)


@given(TEXTS)
def test_the_bytes_of_byte_level_tokens_are_those_of_the_text(byte_level_tokenizer, text):
    codec = TextCodec(byte_level_tokenizer)
    ids = codec.encode_piece(text)
    assert b"".join(map(codec.token_bytes, ids)) == text.encode()


@pytest.mark.parametrize("text", ["the quick brown", "日本 dog 😀", "a\nb"])
def test_the_bytes_of_pieces_are_those_of_the_text_after_a_space(piece_tokenizer, text):
    codec = TextCodec(piece_tokenizer)
    assert b"".join(map(codec.token_bytes, codec.encode_piece(text))) == f" {text}".encode()


def test_what_is_spelt_in_no_known_way_is_its_text():
    assert token_bytes("\u4e00", "\ufffd") == "\ufffd".encode()
    assert token_bytes("<0xE2>", "\ufffd") == b"\xe2"
