"""`beamline optimize`: each verb makes a folder that can be served, with a report that is right."""

import json

import pytest
from typer.testing import CliRunner

from app.cli import app
from optimize.check import CheckedOnnx, check_model
from optimize.onnx_prepare import prepare_onnx
from optimize.optimization_report import REPORT_FILE, read_report
from optimize.spec import ModelSpec
from optimize.weight_scheme import WeightScheme
from tests.engine.exports import TEXT, save_tiny_llama

VERBS = {"onnx": "fp32"} | {s.value: s.value for s in WeightScheme if s is not WeightScheme.FP32}


def optimize(*arguments):
    return CliRunner().invoke(
        app, ["optimize", *map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=False
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A tiny model, a text, and a cache that all verbs share."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "model").mkdir()
    save_tiny_llama(folder / "model")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture(scope="module")
def variants(workshop):
    """The output of each verb's command, and its folder."""
    made = {}
    for verb, scheme in VERBS.items():
        calibration = ["--calibration", workshop / "text.txt"]
        answer = optimize(
            *(verb, "--model", workshop / "model", "--output", workshop / verb),
            *("--text", workshop / "text.txt", "--cache-folder", workshop / "cache"),
            *(calibration if WeightScheme(scheme).is_calibrated else []),
        )
        made[verb] = answer, workshop / verb
    return made


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_makes_a_folder_that_can_be_served(variants, workshop, verb):
    answer, folder = variants[verb]
    assert answer.exit_code == 0, answer.output
    assert VERBS[verb] in answer.output
    spec = ModelSpec(source=str(folder), cache_folder=workshop / "none")
    assert isinstance(check_model(spec), CheckedOnnx)
    prepared = prepare_onnx(spec, WeightScheme.FP32)
    assert prepared.manifest.scheme == VERBS[verb]


@pytest.mark.parametrize("verb", VERBS)
def test_a_report_holds_what_was_measured(variants, verb):
    _, folder = variants[verb]
    report = read_report(folder)
    assert report.technique == VERBS[verb]
    files = [file.stat().st_size for file in folder.glob("*.onnx*")]
    assert report.variant.disk_bytes == sum(files)
    for costs in (report.original, report.variant):
        assert min(costs.one_stream, costs.batch_8, costs.prefill) > 0
        assert costs.memory_bytes > 0
    assert report.quality.num_tokens > 100
    assert report.quality.divergence >= -1e-9


def test_the_original_loses_nothing_and_four_bits_lose_more_than_eight(variants):
    quality = {verb: read_report(folder).quality for verb, (_, folder) in variants.items()}
    exact = quality["onnx"]
    assert exact.perplexity == exact.reference_perplexity
    assert (exact.divergence, exact.agreement) == (0, 1)
    assert 0 < quality["int8"].divergence < quality["int4"].divergence


def test_reports_are_compared_in_a_table_and_a_plot(variants, tmp_path):
    picture = tmp_path / "variants.png"
    folders = [folder for _, folder in variants.values()]
    answer = optimize("compare", *folders, "--plot", picture)
    assert answer.exit_code == 0, answer.output
    assert all(scheme in answer.output for scheme in VERBS.values())
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["int8", "--output", "{folder}"], "exists already"),
        (["int8", "--output", "{folder}/new", "--model", "{folder}/none"], "none"),
        (["w8a8", "--output", "{folder}/new", "--model", "{folder}/model",
          "--calibration", "{folder}/none", "--cache-folder", "{folder}/cache"], "cannot be read"),
        (["int8", "--output", "{folder}/new", "--model", "{folder}/model",
          "--text", "{folder}/none", "--cache-folder", "{folder}/cache"], "cannot be read"),
        (["compare", "{folder}"], REPORT_FILE),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_leave_nothing(workshop, arguments, words):
    answer = optimize(*(argument.format(folder=workshop) for argument in arguments))
    assert answer.exit_code == 1
    assert words in answer.output
    assert not (workshop / "new").exists()


def test_a_scheme_without_calibration_takes_none():
    assert optimize("int8", "--output", "x", "--calibration", "y").exit_code == 2


def test_a_damaged_report_is_refused_by_name(variants, tmp_path):
    _, folder = variants["onnx"]
    content = json.loads((folder / REPORT_FILE).read_text())
    del content["quality"]
    (tmp_path / REPORT_FILE).write_text(json.dumps(content))
    answer = optimize("compare", tmp_path)
    assert answer.exit_code == 1
    assert "damaged" in answer.output
