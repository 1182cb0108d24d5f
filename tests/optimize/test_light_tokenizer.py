"""A tokenizer that is kept loads without torch and reads every text as before, or is refused."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from optimize.errors import LoadingFailed, OnnxUnsupported
from optimize.light_tokenizer import keep_tokenizer, load_light_tokenizer
from tests.app.tiny_tokenizers import train_byte_level, train_pieces

PROBE = "a longer text, with words such as naïve and numbers such as 0.5"
TEXTS = (PROBE, "", "  two\n\nlines\t", "日本語 and 😀", "<s>quick</s>")


class Shouting(PreTrainedTokenizerFast):
    """Does something in Python that its file does not say."""

    def encode(self, text, **options):
        return super().encode(text.upper(), **options)


@pytest.mark.parametrize("train", [train_byte_level, train_pieces])
def test_texts_are_read_and_written_as_before(train, tmp_path):
    tokenizer = train()
    keep_tokenizer(tokenizer, tmp_path, probe=PROBE)
    kept = load_light_tokenizer(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert kept.encode(text) == ids
        assert kept.decode(ids) == tokenizer.decode(ids)
        assert kept.decode(ids, skip_special_tokens=True) == tokenizer.decode(
            ids, skip_special_tokens=True
        )
    assert kept.eos_token_id == tokenizer.eos_token_id


def test_the_chat_template_is_kept(tmp_path):
    tokenizer = train_byte_level()
    keep_tokenizer(tokenizer, tmp_path, probe=PROBE)
    messages = [{"role": "user", "content": "hello"}]
    options = {"tokenize": False, "add_generation_prompt": True}
    assert load_light_tokenizer(tmp_path).apply_chat_template(
        messages, **options
    ) == tokenizer.apply_chat_template(messages, **options)


def test_a_token_added_at_the_front_of_every_text_is_kept(tmp_path):
    tokenizer = train_byte_level()
    tokenizer.backend_tokenizer.post_processor = _begin_with(tokenizer, "<s>")
    assert tokenizer.encode("quick")[0] == tokenizer.bos_token_id
    keep_tokenizer(tokenizer, tmp_path, probe=PROBE)
    assert load_light_tokenizer(tmp_path).encode("quick") == tokenizer.encode("quick")


def test_a_tokenizer_whose_class_does_more_than_its_file_says_is_refused(tmp_path):
    plain = train_byte_level()
    tokenizer = Shouting(tokenizer_object=plain.backend_tokenizer, eos_token="</s>")
    with pytest.raises(OnnxUnsupported, match=r"Shouting .*Serve the model with torch"):
        keep_tokenizer(tokenizer, tmp_path, probe=PROBE)


@pytest.mark.parametrize("content", [None, "{", '{"model": {"type": "nonsense"}}'])
def test_a_missing_or_damaged_file_is_a_loading_error(content, tmp_path):
    keep_tokenizer(train_byte_level(), tmp_path, probe=PROBE)
    if content is None:
        (tmp_path / "tokenizer.json").unlink()
    else:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(LoadingFailed, match="tokenizer"):
        load_light_tokenizer(tmp_path)


def _begin_with(tokenizer, token):
    ids = [(token, tokenizer.convert_tokens_to_ids(token))]
    return TemplateProcessing(single=f"{token} $A", pair=f"{token} $A $B", special_tokens=ids)
