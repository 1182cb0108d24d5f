"""Variants that torch runs: each verb makes a folder that is served, with its own answers."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from app.loading import load_model
from app.settings import load_settings
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.messages import GenerationRequest, RequestFinished
from optimize.errors import CorruptModel, ModelRefused, VariantDiffers
from optimize.loading import load_model as load_module
from optimize.optimization_report import read_report
from optimize.placement import choose_placement
from optimize.program_manifest import PROGRAM_MANIFEST_FILE
from optimize.spec import ModelSpec
from optimize.torch_technique import COMPILE_FILE, TorchTechnique
from optimize.torch_variant import TorchOrder, make_torch_variant
from tests.engine.exports import TEXT, save_tiny_llama

# The compiler's own modules still use what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

SLOW = [
    pytest.param(TorchTechnique.FP8_WEIGHT_ONLY, marks=pytest.mark.slow),
    # A minute of compiling; the last, since it alone leaves something in the cache.
    pytest.param(TorchTechnique.COMPILE, marks=pytest.mark.slow),
]
SERVED = [
    TorchTechnique.INT8_WEIGHT_ONLY,
    TorchTechnique.TORCHSCRIPT,
    TorchTechnique.TORCH_EXPORT,
    *SLOW,
]
EXACT = {TorchTechnique.TORCHSCRIPT, TorchTechnique.TORCH_EXPORT, TorchTechnique.COMPILE}
FILES = {
    TorchTechnique.INT8_WEIGHT_ONLY: "model.safetensors",
    TorchTechnique.FP8_WEIGHT_ONLY: "model.safetensors",
    TorchTechnique.TORCHSCRIPT: "model.pt",
    TorchTechnique.TORCH_EXPORT: "model.pt2",
    TorchTechnique.COMPILE: COMPILE_FILE,
}
PROMPTS = ([5, 6, 7], [9] * 70, list(range(20, 60)), [11])


def optimize(*arguments):
    return CliRunner().invoke(
        app, ["optimize", *map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=False
    )


def serve(folder, cache):
    """The engine that `beamline serve --model folder` runs, and what it says of the model."""
    given = {"model": str(folder), "cache_folder": cache, "threads": 1, "max_rows": 12}
    loaded = load_model(load_settings(given), lambda _stage, _part: None)
    return loaded.engine, loaded.served


def answers(engine):
    strategies = (Greedy(), Beam(num_beams=3), Sample(num_return_sequences=2), Greedy())
    for number, (prompt, strategy) in enumerate(zip(PROMPTS, strategies, strict=True)):
        request = GenerationRequest(
            request_id=str(number), prompt_ids=tuple(prompt), strategy=strategy,
            max_new_tokens=8, seed=number,
        )  # fmt: skip
        assert engine.add(request) == []
    found = {}
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, RequestFinished):
                found[event.request_id] = [one.token_ids for one in event.sequences]
    return found


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "model").mkdir()
    save_tiny_llama(folder / "model")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def original(workshop):
    given = {"runtime": "torch", "threads": 1, "max_rows": 12}
    settings = load_settings({"model": str(workshop / "model"), **given})
    return answers(load_model(settings, lambda _stage, _part: None).engine)


@pytest.fixture(scope="module", params=SERVED)
def variant(request, workshop):
    technique = request.param
    answer = optimize(
        *(technique.value, "--model", workshop / "model", "--output", workshop / technique.value),
        *("--text", workshop / "text.txt", "--cache-folder", workshop / "cache"),
    )
    assert answer.exit_code == 0, answer.output
    assert technique.value in answer.output
    return technique, workshop / technique.value


def test_a_verb_makes_its_folder_with_a_report(variant):
    technique, folder = variant
    assert (folder / FILES[technique]).is_file()
    report = read_report(folder)
    assert report.technique == technique.value
    for costs in (report.original, report.variant):
        assert min(costs.disk_bytes, costs.memory_bytes) > 100_000
        assert min(costs.one_stream, costs.batch_8, costs.prefill) > 0
    assert report.quality.num_tokens > 100
    if technique in EXACT:
        assert report.quality.divergence == pytest.approx(0, abs=1e-6)
        assert report.quality.agreement == pytest.approx(1, abs=1e-3)
    else:
        assert 0 < report.quality.divergence < 0.3
        assert report.variant.disk_bytes < 0.7 * report.original.disk_bytes


def test_a_variant_is_served(variant, workshop, original):
    technique, folder = variant
    engine, served = serve(folder, workshop / "cache")
    assert served.runtime == "torch"
    found = answers(engine)
    assert {key: len(value) for key, value in found.items()} == {"0": 1, "1": 1, "2": 2, "3": 1}
    if technique in EXACT:
        assert found == original
    else:
        assert served.weights.startswith("torchao ")
    kept = list((workshop / "cache" / "compiled").glob("*.bin"))
    assert bool(kept) == (technique is TorchTechnique.COMPILE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": "onnx"}, "--runtime"),
        ({"weights": "int8"}, "--weights"),
        ({"dtype": "bfloat16"}, "--dtype"),
    ],
)
def test_options_that_a_program_cannot_follow_are_refused(workshop, options, words):
    folder = workshop / "torchscript"
    if not folder.exists():
        make(workshop, TorchTechnique.TORCHSCRIPT, folder)
    settings = load_settings({"model": str(folder), **options})
    with pytest.raises(ModelRefused, match=words):
        load_model(settings, lambda _stage, _part: None)


def make(workshop, technique, output, **order):
    spec = ModelSpec(source=str(workshop / "model"), device="cpu", cache_folder=workshop / "cache")
    return make_torch_variant(
        TorchOrder(spec=spec, technique=technique, text_file=workshop / "text.txt", **order), output
    )


def test_four_bits_on_a_cpu_are_refused_with_the_remedy(workshop):
    answer = optimize(
        *("int4-weight-only", "--model", workshop / "model", "--output", workshop / "new"),
        *("--device", "cpu"),
    )
    assert answer.exit_code == 1
    assert "beamline optimize int4" in answer.output
    assert not (workshop / "new").exists()


def test_a_variant_that_differs_is_not_kept(workshop, tmp_path, monkeypatch):
    """The weights change between the original and its copy: the copy must not pass."""
    from optimize import torch_variant  # noqa: PLC0415

    def copy_with_a_fault(*arguments):
        torch_variant._make_compiled(*arguments)
        module = load_module(
            arguments[2], choose_placement("cpu", "float32"), trust_remote_code=False
        )
        with torch.no_grad():
            module.get_input_embeddings().weight.mul_(1.5)
        module.save_pretrained(arguments[2])
        (arguments[2] / COMPILE_FILE).unlink()

    monkeypatch.setitem(torch_variant._MAKERS, TorchTechnique.COMPILE, copy_with_a_fault)
    with pytest.raises(VariantDiffers, match="standard deviations"):
        make(workshop, TorchTechnique.COMPILE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_machine_code_is_made_and_agrees(workshop, tmp_path):
    make(workshop, TorchTechnique.TORCH_EXPORT, tmp_path / "out", machine_code=True)
    assert (tmp_path / "out" / "compiled.pt2").stat().st_size > 100_000


@pytest.mark.parametrize(
    "damage",
    [{"technique": "wishes"}, {"eos_token_ids": 3}, {"num_layers": None, "more": 1}],
)
def test_a_damaged_program_manifest_is_refused(workshop, tmp_path, damage):
    folder = workshop / "torchscript"
    if not folder.exists():
        make(workshop, TorchTechnique.TORCHSCRIPT, folder)
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / PROGRAM_MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(CorruptModel, match=r"beamline-program\.json .*again"):
        serve(tmp_path / "copy", workshop / "cache")
