"""Tokens of prompts and back, as our own API and as TGI's, against the tokenizer itself."""

import pytest
from tokenizers.processors import TemplateProcessing

TEXT = "the café 😀 is\nopen"
TURNS = [{"role": "user", "content": "the quick brown fox"}]
RENDERED = "<|user|>the quick brown fox\n<|assistant|>"


async def post(service, path, **body):
    response = await service.post(path, **body)
    assert response.status_code == 200, response.text
    return response.json()


async def problem_of(service, path, **body):
    response = await service.post(path, **body)
    assert response.status_code == 422, response.text
    return response.json()["error"]


@pytest.mark.parametrize("name", ["text", "prompt", "content"])
async def test_a_text_is_told_as_the_tokens_that_generating_reads(
    service, byte_level_tokenizer, name
):
    answer = await post(service, "/tokenize", **{name: TEXT})
    assert answer["tokens"] == byte_level_tokenizer.encode(TEXT)
    assert answer["count"] == len(answer["tokens"])
    assert answer["prompt"] == TEXT
    assert answer["max_model_len"] == 128
    generated = await service.generate(text=TEXT, prompt_logprobs=0, max_new_tokens=1)
    assert [token["id"] for token in generated["details"]["prompt_tokens"]] == answer["tokens"]


async def test_places_are_where_the_tokens_stand_in_the_text(service):
    answer = await post(service, "/tokenize", text=TEXT)
    assert "".join(TEXT[start:stop] for start, stop in answer["offsets"]) == TEXT
    for text, (start, stop) in zip(answer["texts"], answer["offsets"], strict=True):
        assert text == TEXT[start:stop]


async def test_messages_are_told_as_the_template_writes_them(service):
    answer = await post(service, "/tokenize", messages=TURNS)
    assert answer["prompt"] == RENDERED
    assert answer["tokens"] == (await post(service, "/tokenize", text=RENDERED))["tokens"]
    assert await post(service, "/apply_template", messages=TURNS) == {"prompt": RENDERED}
    assert await post(service, "/apply-template", messages=TURNS) == {"prompt": RENDERED}


async def test_a_last_message_of_the_assistant_is_left_open(service):
    turns = [*TURNS, {"role": "assistant", "content": "It"}]
    answer = await post(service, "/apply_template", messages=turns)
    assert answer["prompt"] == "<|user|>the quick brown fox\n<|assistant|>It"


async def test_special_tokens_are_added_unless_that_is_refused(service, byte_level_tokenizer):
    codec = service.generator.prompts.codec
    codec._backend.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", byte_level_tokenizer.bos_token_id)]
    )
    try:
        plain = await post(service, "/tokenize", text="fox", add_special_tokens=False)
        added = await post(service, "/tokenize", text="fox")
    finally:
        codec._backend.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    assert added["tokens"] == [byte_level_tokenizer.bos_token_id, *plain["tokens"]]
    assert added["offsets"][0] == [0, 0]


async def test_tokens_become_their_text_again(service, byte_level_tokenizer):
    tokens = (await post(service, "/tokenize", text=TEXT))["tokens"]
    assert await post(service, "/detokenize", tokens=tokens) == {"text": TEXT, "prompt": TEXT}
    assert (await post(service, "/detokenize", tokens=[]))["text"] == ""
    marked = [*tokens, byte_level_tokenizer.eos_token_id]
    assert (await post(service, "/detokenize", tokens=marked))["text"] == TEXT + "</s>"
    bare = await post(service, "/detokenize", tokens=marked, skip_special_tokens=True)
    assert bare["text"] == TEXT


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "text"),
        ("/tokenize", {"text": "a", "messages": TURNS}, "text"),
        ("/tokenize", {"text": 3}, "text"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": TURNS, "add_special_tokens": False}, "add_special_tokens"),
        ("/tokenize", {"text": "a", "colour": 1}, "colour"),
        ("/detokenize", {"tokens": [100_000]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {"tokens": "abc"}, "tokens"),
        ("/apply_template", {"messages": []}, "messages"),
    ],
)
async def test_a_wrong_field_is_named(service, path, body, param):
    assert (await problem_of(service, path, **body))["param"] == param


async def test_tgi_tells_bytes_and_what_stands_there(service):
    tokens = await post(service, "/tokenize", inputs=TEXT)
    raw = TEXT.encode()
    assert b"".join(raw[token["start"] : token["stop"]] for token in tokens) == raw
    for token in tokens:
        assert token["text"] == raw[token["start"] : token["stop"]].decode()
    ours = await post(service, "/tokenize", text=TEXT)
    assert [token["id"] for token in tokens] == ours["tokens"]


async def test_tgi_tells_a_conversation_with_its_text(service):
    answer = await post(service, "/chat_tokenize", messages=TURNS)
    assert answer["templated_text"] == RENDERED
    assert answer["tokenize_response"] == await post(service, "/tokenize", inputs=RENDERED)
