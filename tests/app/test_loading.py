"""What loading does about operators that are compiled on the machine: checked once, or not used."""

import logging
import shutil

import pytest

from app.loading import load_model
from app.settings import load_settings
from engine import native_library
from engine.compiled_operators import compile_for_others
from engine.native_runner import NativeRunner
from engine.onnx_runner import OnnxRunner
from tests.engine.exports import save_tiny_llama


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "model").mkdir()
    save_tiny_llama(folder / "model")
    return folder


def load(workshop, **more):
    """The runner that serves the model, and the stages on the way."""
    given = more | {
        "model": str(workshop / "model"),
        "weights": "fp32",
        "threads": 1,
        "max_rows": 8,
    }
    stages = []
    settings = load_settings(given | {"cache_folder": workshop / "cache"})
    loaded = load_model(settings, lambda stage, _part: stages.append(stage))
    return loaded.engine._runner, stages


def test_operators_are_checked_once(workshop):
    runner, stages = load(workshop)
    assert isinstance(runner, NativeRunner)
    assert "checking operators (only once)" in stages
    runner, stages = load(workshop)
    assert isinstance(runner, NativeRunner)
    assert not any("checking operators" in stage for stage in stages)


def test_operators_that_compute_something_else_do_not_serve(
    workshop, tmp_path, monkeypatch, caplog
):
    sources = shutil.copytree(native_library.SOURCES, tmp_path / "native")
    header = sources / "attention.h"
    wrong = header.read_text().replace(
        "begin(position), position + 1)", "begin(position), position)"
    )
    header.write_text(wrong)
    monkeypatch.setattr(native_library, "SOURCES", sources)
    for _ in range(2):  # the fault is found with every start
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="app.runtimes"):
            runner, _ = load(workshop)
        assert isinstance(runner, OnnxRunner)
        assert "give other logits" in caplog.text


def test_operators_compiled_elsewhere_serve_without_a_compiler(workshop, tmp_path, monkeypatch):
    list(compile_for_others(tmp_path / "operators"))
    monkeypatch.setenv("PATH", str(tmp_path))
    runner, stages = load(workshop, operators_folder=tmp_path / "operators")
    assert isinstance(runner, NativeRunner)
    assert not any("compiling" in stage for stage in stages)
    assert "checking operators (only once)" in stages
    _, stages = load(workshop, operators_folder=tmp_path / "operators")
    assert "checking operators (only once)" not in stages


def test_a_folder_without_operators_is_reported_and_made_up_for(workshop, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="app.runtimes"):
        runner, _ = load(workshop, operators_folder=tmp_path)
    assert isinstance(runner, NativeRunner)
    assert "holds no operators of this version" in caplog.text
