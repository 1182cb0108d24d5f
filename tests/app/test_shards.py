"""What is refused before anything is split, with the reason and what to do."""

from pathlib import Path

import pytest

from app.loading import load_model
from app.settings import SettingsError, load_settings
from optimize.errors import ModelRefused
from optimize.sharding import check_can_shard
from tests.oracle.architectures import SERVED
from tests.oracle.sharded_serving import save_architecture

BY_NAME = {each.name: each for each in SERVED}


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("gpt-2", 2, "no tensor parallel plan for gpt2"),
        ("llama", 4, "num_key_value_heads is 2, which 4 does not divide"),
        ("llama", 3, "num_attention_heads is 4, which 3 does not divide"),
    ],
)
def test_a_model_that_cannot_be_split_is_refused_with_the_reason(
    tmp_path: Path, name: str, size: int, reason: str
) -> None:
    folder = save_architecture(BY_NAME[name], tmp_path)
    with pytest.raises(ModelRefused, match=reason):
        check_can_shard(name, folder, size, trust_remote_code=False)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt-neox", "deepseek-3"])
def test_a_model_with_a_plan_can_be_split(tmp_path: Path, name: str) -> None:
    folder = save_architecture(BY_NAME[name], tmp_path)
    check_can_shard(name, folder, 2, trust_remote_code=False)


def test_compiled_layers_are_not_split(tmp_path: Path) -> None:
    from optimize.torch_technique import COMPILE_FILE  # noqa: PLC0415

    folder = save_architecture(BY_NAME["llama"], tmp_path)
    (folder / COMPILE_FILE).touch()
    with pytest.raises(ModelRefused, match="compiled"):
        check_can_shard("llama", folder, 2, trust_remote_code=False)


@pytest.mark.parametrize("option", [{"runtime": "onnx"}, {"weights": "fp32"}])
def test_onnx_runtime_is_refused(tmp_path: Path, option: dict[str, str]) -> None:
    folder = save_architecture(BY_NAME["llama"], tmp_path)
    settings = load_settings({"model": str(folder), "tensor_parallel_size": 2} | option)
    with pytest.raises(ModelRefused, match="--tensor-parallel-size is for torch"):
        load_model(settings, lambda _stage, _part: None)


def test_a_draft_model_is_refused() -> None:
    with pytest.raises(SettingsError, match="does not go with draft_model"):
        load_settings({"tensor_parallel_size": 2, "draft_model": "some/model"})


@pytest.mark.parametrize("size", [0, 65])
def test_a_size_out_of_bounds_is_refused(size: int) -> None:
    with pytest.raises(SettingsError, match="tensor-parallel-size"):
        load_settings({"tensor_parallel_size": size})
