"""Text from tokens: whole and streamed are the same, and stop strings are exact.

The oracle is the tokenizer itself, decoding everything at once.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.text.codec import TextCodec
from app.text.detokenizer import Detokenizer
from app.text.sequence_text import SequenceText
from app.text.stop_strings import StopKeeper, StopScanner, StopStrings
from tests.app.tiny_tokenizers import train_byte_level, train_pieces

BYTE_LEVEL, PIECES = train_byte_level(), train_pieces()
TOKENIZERS = {"byte level": BYTE_LEVEL, "pieces": PIECES}
token_lists = st.lists(st.integers(0, len(BYTE_LEVEL) + 5), max_size=40)
texts = st.text(alphabet=st.sampled_from("abc xyz\né日😀."), max_size=40)
stop_lists = st.lists(
    st.text(alphabet=st.sampled_from("abc \né日."), min_size=1, max_size=6), min_size=1, max_size=3
)


def stream(codec, ids, *, context=(), stops=()):
    text = SequenceText(codec, context=context, stops=stops)
    pieces = [text.push([token_id]) for token_id in ids]
    pieces.append(text.finish())
    assert "".join(pieces) == text.text
    return text


@given(ids=token_lists)
def test_bytes_in_any_order_decode_as_the_tokenizer_decodes_them(ids):
    assert stream(TextCodec(BYTE_LEVEL), ids).text == BYTE_LEVEL.decode(
        ids, skip_special_tokens=True
    )


@pytest.mark.parametrize("name", TOKENIZERS)
@given(prompt=texts, continuation=texts)
def test_a_continuation_reads_as_the_rest_of_the_whole_text(name, prompt, continuation):
    codec = TextCodec(TOKENIZERS[name])
    ids = codec.encode("a" + prompt + "b" + continuation)
    whole = codec.decode(ids)
    for cut in range(1, len(ids)):
        context = codec.context_of(ids[:cut])
        before = codec.decode(ids[:cut])
        if not before.endswith("\ufffd"):
            assert before + stream(codec, ids[cut:], context=context).text == whole


@pytest.mark.parametrize("name", TOKENIZERS)
@given(ids=token_lists, sizes=st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_how_tokens_are_grouped_does_not_matter(name, ids, sizes):
    codec = TextCodec(TOKENIZERS[name])
    ids = [token_id for token_id in ids if token_id < len(TOKENIZERS[name])]
    grouped = SequenceText(codec, context=(), stops=["b", "abc"])
    start = 0
    for size in (size for _ in ids for size in sizes):
        grouped.push(ids[start : start + size])
        start += size
    grouped.finish()
    assert grouped.text == stream(codec, ids, stops=["b", "abc"]).text


def test_half_a_character_is_held_back_until_it_is_whole():
    codec = TextCodec(BYTE_LEVEL)
    ids = [BYTE_LEVEL.convert_tokens_to_ids(token) for token in ("ð", "Ł", "ĺ", "Ģ")]
    detokenizer = Detokenizer(codec)
    assert [detokenizer.push(token_id) for token_id in ids] == ["", "", "", "😀"]


def test_garbage_is_not_held_back_forever():
    codec = TextCodec(BYTE_LEVEL)
    broken = BYTE_LEVEL.convert_tokens_to_ids("ð")
    detokenizer = Detokenizer(codec)
    pushed = "".join(detokenizer.push(broken) for _ in range(100))
    assert len(pushed) > 80
    assert pushed + detokenizer.finish() == codec.decode([broken] * 100)


def test_special_tokens_leave_no_trace():
    codec = TextCodec(PIECES)
    a, b = codec.encode("fox dog")[0], codec.encode("fox dog")[-1]
    with_specials = [a, PIECES.bos_token_id, PIECES.eos_token_id, b]
    assert stream(codec, with_specials).text == stream(codec, [a, b]).text


@pytest.mark.parametrize("name", TOKENIZERS)
@given(prompt=texts, continuation=texts, stops=stop_lists)
def test_a_sequence_stops_at_the_first_token_that_completes_a_stop(
    name, prompt, continuation, stops
):
    codec = TextCodec(TOKENIZERS[name])
    prompt_ids = codec.encode("a" + prompt)
    ids = codec.encode("a" + prompt + continuation)[len(prompt_ids) :]
    context = codec.context_of(prompt_ids)
    check = StopStrings(stops, codec, context)
    for length in range(1, len(ids) + 1):
        text = stream(codec, ids[:length], context=context).text
        expected = any(stop in text for stop in stops)
        assert check(ids[:length]) == expected
        if expected:
            cut = min(text.find(stop) for stop in stops if stop in text)
            assert stream(codec, ids[:length], context=context, stops=stops).text == text[:cut]
            return


@given(text=texts, stops=stop_lists, sizes=st.lists(st.integers(1, 3), min_size=1, max_size=9))
def test_a_scanner_never_shows_what_may_begin_a_stop(text, stops, sizes):
    scanner = StopScanner(stops)
    shown, given_text = "", ""
    position = 0
    for size in (size for _ in text for size in sizes):
        piece = text[position : position + size]
        position += size
        given_text += piece
        shown += scanner.push(piece)
        assert given_text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        if scanner.has_stopped:
            return
    assert shown + scanner.finish() == text


@given(text=texts, stops=stop_lists, sizes=st.lists(st.integers(1, 3), min_size=1, max_size=9))
def test_a_keeper_shows_everything_to_the_end_of_the_first_stop(text, stops, sizes):
    keeper = StopKeeper(stops)
    shown, position = "", 0
    for size in (size for _ in text for size in sizes):
        piece = text[position : position + size]
        position += size
        shown += keeper.push(piece)
        ends = [text[:position].find(stop) + len(stop) for stop in stops if stop in text[:position]]
        assert shown == text[: min(ends, default=position)]
        assert keeper.has_stopped == bool(ends)
        if keeper.has_stopped:
            assert keeper.push("more") == ""
            return
    assert keeper.finish() == ""


def test_a_long_stop_string_is_found_across_many_tokens():
    codec = TextCodec(BYTE_LEVEL)
    stop = "over the lazy dog and 日本語 text"
    ids = codec.encode("The quick brown fox jumps over the lazy dog and 日本語 text")
    check = StopStrings([stop], codec, ())
    assert [check(ids[: length + 1]) for length in range(len(ids))].index(True) == len(ids) - 1


def test_special_tokens_inside_a_stop_string_do_not_hide_it():
    codec = TextCodec(BYTE_LEVEL)
    ids = []
    for token_id in codec.encode("xyz"):
        ids += [token_id, *[BYTE_LEVEL.eos_token_id] * 20]
    assert StopStrings(["xyz"], codec, ())(ids)


def test_a_stop_string_of_the_prompt_does_not_count():
    codec = TextCodec(BYTE_LEVEL)
    context = codec.context_of(codec.encode("the end"))
    assert not StopStrings(["end"], codec, context)(codec.encode(" of it"))


def test_special_tokens_show_where_calls_are_written_with_them(byte_level_tokenizer):
    tokenizer = byte_level_tokenizer
    codec = TextCodec(tokenizer)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    showing = codec.showing(frozenset({start}))
    ids = [*codec.encode("café"), start, *codec.encode(" 😀 dog"), end]
    assert showing.decode(ids) == "café<s> 😀 dog"
    text = SequenceText(showing, context=(), stops=("g",))
    assert "".join(text.push([each]) for each in ids) + text.finish() == "café<s> 😀 do"
    assert codec.decode(ids) == "café 😀 dog", "the codec itself is as before"
