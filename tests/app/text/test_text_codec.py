"""Encoding, rendering and decoding with real tokenizers, from several threads at once."""

import threading

import pytest

from app.errors import InvalidRequest
from app.text.codec import TextCodec
from app.text.request import Message


@pytest.fixture(params=["byte_level_tokenizer", "piece_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def codec(tokenizer):
    return TextCodec(tokenizer)


def conversation(*turns):
    return tuple(Message(role=role, content=content) for role, content in turns)


def test_encoding_is_the_tokenizers_own(codec, tokenizer):
    for text in ("the quick brown fox", "", " a  b\n", "café 😀"):
        assert list(codec.encode(text)) == tokenizer.encode(text)


def test_decoding_skips_special_tokens(codec, tokenizer):
    ids = [tokenizer.bos_token_id, *codec.encode("the dog"), tokenizer.eos_token_id]
    assert codec.decode(ids).strip() == "the dog"


def test_token_text_shows_special_tokens(codec, tokenizer):
    assert codec.token_text(tokenizer.eos_token_id) == tokenizer.eos_token


def test_ids_that_the_tokenizer_lacks_are_silent(codec, tokenizer):
    assert codec.is_silent(len(tokenizer))
    assert codec.is_silent(tokenizer.bos_token_id)
    assert not codec.is_silent(codec.encode("dog")[0])


def test_truncation_and_padding_of_the_tokenizer_file_are_off(byte_level_tokenizer):
    tokenizer = type(byte_level_tokenizer)(
        tokenizer_object=type(byte_level_tokenizer.backend_tokenizer).from_str(
            byte_level_tokenizer.backend_tokenizer.to_str()
        ),
        bos_token="<s>",
    )
    tokenizer.backend_tokenizer.enable_truncation(max_length=2)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    codec = TextCodec(tokenizer)
    assert codec.encode("the quick brown fox") == tuple(
        byte_level_tokenizer.encode("the quick brown fox")
    )


def test_a_tokenizer_without_a_backend_works_the_same(byte_level_tokenizer):
    class Slow(type(byte_level_tokenizer)):
        is_fast = False

    slow = Slow(
        tokenizer_object=byte_level_tokenizer.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
    )
    fast_codec, slow_codec = TextCodec(byte_level_tokenizer), TextCodec(slow)
    ids = fast_codec.encode("café 😀 and more")
    assert slow_codec.encode("café 😀 and more") == ids
    assert slow_codec.decode(ids) == fast_codec.decode(ids)
    assert slow_codec.is_silent(slow.eos_token_id)
    assert slow_codec.token_text(slow.eos_token_id) == "</s>"


def test_a_conversation_is_rendered_with_the_models_template(byte_level_tokenizer):
    codec = TextCodec(byte_level_tokenizer)
    turns = conversation(("system", "Be brief."), ("user", "Hello"))
    assert codec.render(turns) == "<|system|>Be brief.\n<|user|>Hello\n<|assistant|>"


def test_a_last_message_of_the_assistant_is_continued(byte_level_tokenizer):
    codec = TextCodec(byte_level_tokenizer)
    turns = conversation(("user", "Hello"), ("assistant", "Good mor"))
    assert codec.render(turns) == "<|user|>Hello\n<|assistant|>Good mor"


def test_messages_without_a_template_are_refused_by_name(piece_tokenizer):
    with pytest.raises(InvalidRequest, match="no chat template") as caught:
        TextCodec(piece_tokenizer).render(conversation(("user", "Hello")))
    assert caught.value.param == "messages"


def test_what_a_template_refuses_names_messages_and_a_remedy(byte_level_tokenizer):
    tokenizer = type(byte_level_tokenizer)(
        tokenizer_object=byte_level_tokenizer.backend_tokenizer,
        chat_template="{{ raise_exception('roles must alternate') }}",
    )
    with pytest.raises(InvalidRequest, match="roles must alternate") as caught:
        TextCodec(tokenizer).render(conversation(("user", "Hello")))
    assert caught.value.param == "messages"
    assert "change their roles or order, or send the prompt as `text`" in str(caught.value)


def test_the_context_of_a_prompt_is_its_last_readable_end(codec):
    ids = codec.encode("the dog 😀")
    context = codec.context_of(ids)
    assert context
    assert ids[-len(context) :] == context
    assert "\ufffd" not in codec.decode(context)


def test_a_prompt_that_ends_in_a_special_token_gives_no_context(codec, tokenizer):
    assert codec.context_of([*codec.encode("the dog"), tokenizer.bos_token_id]) == ()


def test_threads_may_encode_and_decode_at_once(codec):
    text = "the quick brown fox café 😀 " * 20
    ids = codec.encode(text)
    expected = codec.decode(ids)
    results = []

    def work():
        results.extend(
            codec.encode(text) == ids and codec.decode(ids) == expected for _ in range(50)
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    assert all(results)
