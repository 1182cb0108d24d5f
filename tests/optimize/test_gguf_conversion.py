"""A converted GGUF file is the same model: every weight, every token, the chat template."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GgufConfig

from optimize.errors import ConversionFailed, UnsupportedModelFormat
from optimize.prepare import prepare_model
from optimize.source import find_default_model
from optimize.spec import ModelSpec


def test_converted_weights_equal_the_values_of_the_blocks_exactly(gguf_values, spec_of):
    path, values = gguf_values
    prepared = prepare_model(spec_of(path))
    parameters = dict(prepared.module.named_parameters())
    assert parameters.keys() == values.keys()
    for name, expected in values.items():
        np.testing.assert_array_equal(parameters[name].detach().numpy(), expected, err_msg=name)


def test_converted_model_computes_what_the_original_computes(gguf_file, spec_of, module):
    prepared = prepare_model(spec_of(gguf_file))
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(
            prepared.module(ids).logits, module(ids).logits, atol=0.01, rtol=0.1
        )


def test_converted_tokenizer_keeps_its_tokens_and_its_chat_template(gguf_file, spec_of, tokenizer):
    prepared = prepare_model(spec_of(gguf_file))
    text = "the cat sat on the other mat, too: ünï 123"
    assert prepared.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert prepared.tokenizer.decode(prepared.tokenizer(text)["input_ids"]) == text
    messages = [{"role": "user", "content": "hello"}]
    assert prepared.tokenizer.apply_chat_template(
        messages, tokenize=False
    ) == tokenizer.apply_chat_template(messages, tokenize=False)


def test_prepared_gguf_says_what_serving_must_know(gguf_file, spec_of, tokenizer):
    prepared = prepare_model(spec_of(gguf_file))
    assert prepared.name == "tiny-llama.Q8_0"
    assert prepared.revision.startswith("gguf-sha256-")
    assert (prepared.device, prepared.dtype) == ("cpu", "float32")
    assert prepared.context_length == 128
    assert prepared.eos_token_ids == {tokenizer.eos_token_id}
    assert not prepared.module.training


def test_a_smaller_dtype_is_a_matter_of_loading(gguf_file, spec_of, cache_folder):
    prepared = prepare_model(spec_of(gguf_file, dtype="bfloat16"))
    assert {p.dtype for p in prepared.module.parameters()} == {torch.bfloat16}
    (folder,) = (cache_folder / "converted").glob("tiny*")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


def test_progress_is_reported_and_nothing_is_drawn(gguf_file, spec_of, capfd):
    reports = []
    prepare_model(spec_of(gguf_file), progress=lambda name, part: reports.append((name, part)))
    fractions = [part for name, part in reports if name.startswith("converting")]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert len(fractions) > 5
    assert "it/s" not in capfd.readouterr().err


def test_files_can_be_read_by_another_user(gguf_file, spec_of, cache_folder):
    prepare_model(spec_of(gguf_file))
    (folder,) = (cache_folder / "converted").glob("tiny*")
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_sliding_window_that_would_be_dropped_is_refused(write_gguf, tmp_path, spec_of):
    path = tmp_path / "window.gguf"
    write_gguf(path, {"llama.attention.sliding_window": 64})
    with pytest.raises(UnsupportedModelFormat, match="sliding attention window of 64"):
        prepare_model(spec_of(path))


def test_missing_tensor_is_refused_and_leaves_nothing_behind(
    write_gguf, tmp_path, spec_of, cache_folder
):
    path = tmp_path / "missing.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up", b"blk.7.ffn_up"))
    with pytest.raises(ConversionFailed, match=r"mlp\.up_proj"):
        prepare_model(spec_of(path))
    assert [p.name for p in (cache_folder / "converted").iterdir()] == [".lock"]


@pytest.mark.slow
@pytest.mark.smollm2
def test_embedded_default_equals_a_direct_read_of_its_gguf_file(cache_folder):
    from_disk = prepare_model(ModelSpec(device="cpu", cache_folder=cache_folder))
    file = find_default_model()
    direct = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    for (name, ours), (_, theirs) in zip(
        from_disk.module.named_parameters(), direct.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert from_disk.context_length == 8192
    assert from_disk.tokenizer.chat_template
