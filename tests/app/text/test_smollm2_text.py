"""Text from tokens with the tokenizer of the embedded default model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from app.text.codec import TextCodec
from app.text.request import Message
from app.text.sequence_text import SequenceText
from app.text.stop_strings import StopStrings
from optimize.source import find_default_model

pytestmark = [pytest.mark.smollm2, pytest.mark.slow]
texts = st.text(max_size=60)


@pytest.fixture(scope="module")
def tokenizer():
    file = find_default_model()
    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


@pytest.fixture(scope="module")
def codec(tokenizer):
    return TextCodec(tokenizer)


def stream(codec, ids, *, context=(), stops=()):
    text = SequenceText(codec, context=context, stops=stops)
    pieces = [text.push([token_id]) for token_id in ids]
    assert "".join([*pieces, text.finish()]) == text.text
    return text.text


@given(ids=st.lists(st.integers(0, 49_151), max_size=60))
def test_any_tokens_stream_to_what_the_tokenizer_decodes(codec, tokenizer, ids):
    assert stream(codec, ids) == tokenizer.decode(ids, skip_special_tokens=True)


@given(text=texts)
def test_any_text_streams_to_what_the_tokenizer_decodes(codec, tokenizer, text):
    ids = codec.encode(text)
    assert list(ids) == tokenizer.encode(text)
    assert stream(codec, ids) == tokenizer.decode(ids, skip_special_tokens=True)


@given(text=texts, stop=st.text(min_size=1, max_size=5).filter(lambda stop: "\ufffd" not in stop))
def test_a_stop_string_is_found_at_the_token_that_completes_it(codec, text, stop):
    ids = codec.encode(text + stop + text)
    check = StopStrings([stop], codec, ())
    for length in range(1, len(ids) + 1):
        is_there = stop in stream(codec, ids[:length])
        assert check(ids[:length]) == is_there
        if is_there:
            before = stream(codec, ids[:length]).split(stop)[0]
            assert stream(codec, ids[:length], stops=[stop]) == before
            return


def test_its_chat_template_opens_an_answer(codec):
    rendered = codec.render((Message(role="user", content="Hello"),))
    assert rendered.endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert codec.context_of(codec.encode(rendered, has_special_tokens=True))
