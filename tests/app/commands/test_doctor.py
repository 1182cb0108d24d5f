"""`beamline doctor` on a tiny model: what it says is what a start would do."""

import json
import logging

import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.engine.exports import CONTEXT_LENGTH, save_tiny_llama


@pytest.fixture(autouse=True)
def clean_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


def doctor(tmp_path, *arguments):
    options = ["doctor", "--cache-folder", tmp_path, "--device", "cpu", *arguments]
    return CliRunner().invoke(app, [*map(str, options)], env={"COLUMNS": "200"})


def test_a_loaded_model_is_told_in_full(tmp_path, model):
    answer = doctor(tmp_path, "--model", model, "--runtime", "torch", "--json", "--max-rows", 2)
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["can_serve"]
    trial = told["trial"]
    assert trial["model"]["runtime"] == trial["model"]["operators"] == "torch"
    assert trial["context_length"] == CONTEXT_LENGTH
    assert trial["max_cached_tokens"] >= 2 * CONTEXT_LENGTH
    assert trial["remarks"] == [f"serving {model.name} with torch: as --runtime says"]
    assert any("leave out --runtime" in advice["remedy"] for advice in told["advice"])


def test_people_get_a_table(tmp_path, model):
    answer = doctor(tmp_path, "--model", model, "--runtime", "torch", "--threads", 300)
    assert answer.exit_code == 0, answer.output
    words = " ".join(answer.output.split())
    assert "torch on cpu, torch operators; bits may vary by company" in words
    assert "300 threads share" in words


def test_a_quick_look_loads_nothing(tmp_path, model):
    answer = doctor(tmp_path, "--model", model, "--quick", "--json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert (told["can_serve"], told["trial"]["model"]) == (True, None)
    assert told["machine"]["packages"]["torch"]


@pytest.mark.parametrize("how", [["--quick"], [], ["--json"]])
def test_a_model_that_cannot_be_served_fails(tmp_path, how):
    answer = doctor(tmp_path, "--model", tmp_path / "none", *how)
    assert answer.exit_code == 1
    assert "no such file or folder" in answer.output
    if "--json" in how:
        assert json.loads(answer.stdout)["can_serve"] is False


def test_wrong_options_are_a_usage_error(tmp_path):
    answer = doctor(tmp_path, "--max-rows", 0)
    assert answer.exit_code == 2
    assert "--max-rows" in answer.output
