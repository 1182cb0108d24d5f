"""A model is exported once and found again; what cannot be exported is said, and remembered."""

import json
import shutil
import subprocess
import sys

import pytest
from transformers import LlamaConfig

from engine.config import EngineConfig
from engine.onnx_runner import OnnxRunner
from optimize.errors import CorruptModel, InvalidCalibration, LoadingFailed, OnnxUnsupported
from optimize.onnx_manifest import ONNX_MANIFEST_FILE
from optimize.onnx_prepare import prepare_onnx
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import TEXT, build_requests, decoder_shape, run, save_tiny_llama

CONFIG = EngineConfig(max_rows=12, num_threads=1, kv_cache_bytes=2**26)
HEAVY = ("torch", "transformers.modeling_utils", "onnxruntime_genai", "optimize.onnx_making")
SECOND_START = """
import sys
from pathlib import Path
from optimize.onnx_prepare import prepare_onnx
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme
spec = ModelSpec(source=sys.argv[1], device="cpu", cache_folder=Path(sys.argv[2]))
prepared = prepare_onnx(spec, WeightScheme(sys.argv[3]))
assert prepared.tokenizer.encode("the quick brown fox")
print([name for name in sys.argv[4:] if name in sys.modules])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def spec(source, cache):
    return ModelSpec(source=str(source), device="cpu", cache_folder=cache)


@pytest.fixture(scope="module")
def stages():
    """What the first export reports."""
    return []


@pytest.fixture(scope="module")
def prepared(spec, stages):
    return prepare_onnx(spec, WeightScheme.FP32, progress=lambda name, _part: stages.append(name))


@pytest.fixture
def exported_copy(prepared, tmp_path):
    return shutil.copytree(prepared.folder, tmp_path / "given")


def note_stages(stages):
    return lambda name, _part: stages.append(name)


def test_a_model_is_exported_once_and_found_again(prepared, spec, stages):
    assert any(stage.startswith("exporting") for stage in stages)
    again = []
    found = prepare_onnx(spec, WeightScheme.FP32, progress=note_stages(again))
    assert again == []
    assert (found.folder, found.revision) == (prepared.folder, prepared.revision)
    assert found.manifest == prepared.manifest


def test_the_text_to_calibrate_with_does_not_matter_to_schemes_without_calibration(
    prepared, spec, tmp_path
):
    text = tmp_path / "mine.txt"
    text.write_text(TEXT)
    found = prepare_onnx(spec, WeightScheme.FP32, calibration_file=text)
    assert found.folder == prepared.folder


def test_scheme_and_calibration_text_make_other_revisions(prepared, spec, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text(TEXT)
    by_default = prepare_onnx(spec, WeightScheme.W8A8)
    by_mine = prepare_onnx(spec, WeightScheme.W8A8, calibration_file=mine)
    assert len({one.revision for one in (prepared, by_default, by_mine)}) == 3
    assert len({one.folder for one in (prepared, by_default, by_mine)}) == 3
    weights = [(one.folder / "model.onnx.data").read_bytes() for one in (by_default, by_mine)]
    assert weights[0] != weights[1]


def test_a_second_start_imports_neither_torch_nor_the_exporter(prepared, source, cache):
    command = [sys.executable, "-c", SECOND_START, str(source), str(cache), "fp32", *HEAVY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
    assert prepared.folder.is_dir()


def test_a_missing_file_of_an_export_has_it_made_again(prepared, spec):
    (prepared.folder / "native.onnx").unlink()
    again = []
    found = prepare_onnx(spec, WeightScheme.FP32, progress=note_stages(again))
    assert any(stage.startswith("exporting") for stage in again)
    assert found.native_graph is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\xfd caf\xe9", "utf-8' codec"),
        (b"far too short", r"has \d+ tokens and needs 64"),
    ],
    ids=["missing", "not UTF-8", "too short"],
)
def test_a_calibration_text_that_cannot_be_used_is_refused_with_the_remedy(
    content, reason, spec, tmp_path
):
    file = tmp_path / "mine.txt"
    if content is not None:
        file.write_bytes(content)
    stages = []
    with pytest.raises(InvalidCalibration, match=rf"({reason}).*Give"):
        prepare_onnx(
            spec, WeightScheme.INT8_STATIC, calibration_file=file, progress=note_stages(stages)
        )
    assert stages == []  # found before anything long is begun


def test_an_exported_folder_is_a_model_with_a_scheme_of_its_own(prepared, exported_copy, tmp_path):
    given = ModelSpec(source=str(exported_copy), device="cpu", cache_folder=tmp_path / "unused")
    opened = prepare_onnx(given, WeightScheme.W8A8)
    assert opened.folder == exported_copy
    assert opened.manifest == prepared.manifest
    assert opened.name == "given"
    assert opened.revision == prepared.revision
    assert not (tmp_path / "unused").exists()


def test_an_exported_folder_answers_as_the_model_does(prepared, exported_copy, tmp_path):
    given = ModelSpec(source=str(exported_copy), device="cpu", cache_folder=tmp_path / "unused")
    opened = prepare_onnx(given, WeightScheme.FP32)
    requests = build_requests(opened.manifest.vocab_size, num=3, new=6)
    answers = []
    for one in (prepared, opened):
        shape = decoder_shape(one.manifest)
        runner = OnnxRunner.load(one.graph, shape, CONFIG, vocab_size=one.manifest.vocab_size)
        answers.append(run(runner, CONFIG, requests))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: {**content, "scheme": "int3"},
        lambda content: {k: v for k, v in content.items() if k != "head_dim"},
        lambda content: {**content, "eos_token_ids": "none"},
        lambda _content: [],
    ],
    ids=["unknown scheme", "missing key", "wrong type", "no object"],
)
def test_a_damaged_manifest_is_refused_with_the_remedy(damage, exported_copy, tmp_path):
    path = exported_copy / ONNX_MANIFEST_FILE
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    given = ModelSpec(source=str(exported_copy), device="cpu", cache_folder=tmp_path / "unused")
    with pytest.raises(CorruptModel, match=r"beamline-onnx\.json .*again"):
        prepare_onnx(given, WeightScheme.FP32)


def test_an_export_without_its_tokenizer_is_refused(exported_copy, tmp_path):
    (exported_copy / "tokenizer.json").write_text("{")
    given = ModelSpec(source=str(exported_copy), device="cpu", cache_folder=tmp_path / "unused")
    with pytest.raises(LoadingFailed, match="tokenizer"):
        prepare_onnx(given, WeightScheme.FP32)


def test_a_refusal_is_remembered_with_its_reason(source, tmp_path):
    folder = shutil.copytree(source, tmp_path / "dynamic")
    config = LlamaConfig.from_pretrained(folder)
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    config.save_pretrained(folder)
    spec = ModelSpec(source=str(folder), device="cpu", cache_folder=tmp_path / "cache")
    reasons = []
    for _ in range(2):
        with pytest.raises(OnnxUnsupported, match=r"dynamic.*Serve it with torch") as caught:
            prepare_onnx(spec, WeightScheme.FP32)
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]
    (remembered,) = (tmp_path / "cache" / "onnx").glob("*refused*.txt")
    remembered.write_text("because it says so")
    with pytest.raises(OnnxUnsupported, match="because it says so"):
        prepare_onnx(spec, WeightScheme.FP32)


def test_a_configuration_that_transformers_rejects_is_a_loading_error(source, tmp_path):
    folder = shutil.copytree(source, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 7}))
    spec = ModelSpec(source=str(folder), device="cpu", cache_folder=tmp_path / "cache")
    with pytest.raises(LoadingFailed, match="configuration"):
        prepare_onnx(spec, WeightScheme.FP32)


def test_a_gguf_file_is_converted_and_exported(gguf_file, cache_folder, tokenizer):
    spec = ModelSpec(source=str(gguf_file), device="cpu", cache_folder=cache_folder)
    prepared = prepare_onnx(spec, WeightScheme.INT8)
    assert prepared.manifest.source_revision.startswith("gguf-sha256-")
    assert prepared.context_length == 128
    assert prepared.eos_token_ids == {tokenizer.eos_token_id}
    text = "the cat sat on the mat"
    assert prepared.tokenizer.encode(text) == tokenizer.encode(text)
    messages = [{"role": "user", "content": "hello"}]
    assert prepared.tokenizer.apply_chat_template(
        messages, tokenize=False
    ) == tokenizer.apply_chat_template(messages, tokenize=False)
