"""A transformers folder is loaded as it is, or refused for a stated reason; its code never runs."""

import json
import os

import pytest
import torch

from optimize.errors import LoadingFailed, NotEnoughMemory, UnsupportedModelFormat
from optimize.placement import Placement
from optimize.prepare import prepare_model

BOOBY_TRAP = """
from pathlib import Path
Path(__file__).with_name("SPRUNG").touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class Own(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def set_trap(model_folder, edit_config):
    """Give the folder code of its own that leaves a mark when it runs."""

    def set_trap(**changes):
        (model_folder / "own.py").write_text(
            BOOBY_TRAP.replace("Path(__file__)", f"Path({str(model_folder / 'own.py')!r})")
        )
        classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
        edit_config(auto_map=classes, **changes)
        return model_folder / "SPRUNG"

    return set_trap


def test_loaded_model_is_the_saved_one(model_folder, spec_of, module, tokenizer):
    prepared = prepare_model(spec_of(model_folder))
    for (name, ours), (_, theirs) in zip(
        prepared.module.named_parameters(), module.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert prepared.name == "tiny-llama"
    assert prepared.context_length == 128
    assert prepared.eos_token_ids == {tokenizer.eos_token_id}
    assert prepared.module.config._attn_implementation == "eager"
    assert not prepared.module.training


def test_code_of_an_unknown_model_never_runs(set_trap, model_folder, spec_of):
    sprung = set_trap(model_type="own", architectures=["Own"])
    with pytest.raises(ValueError, match="--trust-remote-code"):
        prepare_model(spec_of(model_folder))
    assert not sprung.exists()


def test_code_of_a_known_model_never_runs_and_the_known_class_is_used(
    set_trap, model_folder, spec_of
):
    sprung = set_trap()
    prepared = prepare_model(spec_of(model_folder))
    assert type(prepared.module).__module__.startswith("transformers.")
    assert not sprung.exists()


def test_code_of_a_trusted_model_runs(set_trap, model_folder, spec_of, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    sprung = set_trap(model_type="own", architectures=["Own"])
    prepared = prepare_model(spec_of(model_folder, trust_remote_code=True))
    assert type(prepared.module).__name__ == "Own"
    assert sprung.exists()


def test_base_model_without_its_head_is_refused(model_folder, edit_config, spec_of, module):
    module.model.save_pretrained(model_folder)
    edit_config(architectures=["LlamaForCausalLM"], tie_word_embeddings=False)
    with pytest.raises(LoadingFailed, match=r"lm_head\.weight.*random"):
        prepare_model(spec_of(model_folder))


def test_config_that_transformers_rejects_is_a_loading_error(model_folder, edit_config, spec_of):
    edit_config(num_attention_heads=7)
    with pytest.raises(LoadingFailed, match=r"64.*not a multiple of the number of attention heads"):
        prepare_model(spec_of(model_folder))


def test_damaged_tokenizer_is_a_loading_error(model_folder, spec_of):
    path = model_folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"BPE"', '"nonsense"'))
    with pytest.raises(LoadingFailed, match="could not load the tokenizer"):
        prepare_model(spec_of(model_folder))


def test_revision_changes_with_the_content(model_folder, edit_config, spec_of):
    first = prepare_model(spec_of(model_folder)).revision
    assert prepare_model(spec_of(model_folder)).revision == first
    edit_config(rms_norm_eps=1e-5)
    second = prepare_model(spec_of(model_folder)).revision
    os.utime(model_folder / "model.safetensors", ns=(1, 1))
    third = prepare_model(spec_of(model_folder)).revision
    assert len({first, second, third}) == 3


def test_generation_config_may_name_several_end_tokens(model_folder, edit_config, spec_of):
    edit_config("generation_config.json", eos_token_id=[2, 5, 10_000])
    assert prepare_model(spec_of(model_folder)).eos_token_ids == {2, 5}


def test_end_of_turn_of_the_chat_template_ends_a_text(
    model_folder, edit_config, spec_of, tokenizer
):
    edit_config(eos_token_id=0)
    edit_config("generation_config.json", eos_token_id=0)
    edit_config("tokenizer_config.json", eos_token="<|endoftext|>")
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert prepare_model(spec_of(model_folder)).eos_token_ids == {0, end_of_turn}
    (model_folder / "chat_template.jinja").write_text("{{ messages }}")
    assert prepare_model(spec_of(model_folder)).eos_token_ids == {0}


@pytest.mark.parametrize(("limit", "expected"), [(77, 77), (None, None)])
def test_context_length_falls_back_to_the_tokenizer_or_is_refused(
    model_folder, edit_config, spec_of, limit, expected, monkeypatch
):
    monkeypatch.setattr("optimize.description._CONTEXT_LENGTH_NAMES", ("n_elsewhere",))
    edit_config("tokenizer_config.json", model_max_length=limit)
    if expected is None:
        with pytest.raises(UnsupportedModelFormat, match="max_position_embeddings"):
            prepare_model(spec_of(model_folder))
    else:
        assert prepare_model(spec_of(model_folder)).context_length == expected


def test_model_larger_than_its_device_is_refused(model_folder, spec_of, monkeypatch):
    monkeypatch.setattr(Placement, "available_bytes", lambda _self: 1000)
    with pytest.raises(NotEnoughMemory, match=r"cpu has 0\.00 GiB free"):
        prepare_model(spec_of(model_folder))


def test_nothing_is_printed_while_loading(model_folder, spec_of, capfd):
    prepare_model(spec_of(model_folder))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_sharded_weights_are_loaded(model_folder, spec_of, module):
    (model_folder / "model.safetensors").unlink()
    module.save_pretrained(model_folder, max_shard_size="50KB")
    index = json.loads((model_folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    prepared = prepare_model(spec_of(model_folder))
    assert torch.equal(prepared.module.lm_head.weight, module.lm_head.weight)
