"""`beamline models`: what is prepared is listed, found again, and removed."""

import json
import os

import pytest
from typer.testing import CliRunner

from app.cli import app
from optimize.made_once import MANIFEST_FILE
from tests.engine.exports import save_tiny_llama


def models(*arguments):
    return CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "250"})


def listed(cache):
    return json.loads(models("list", "--json", "--cache-folder", cache).stdout)["models"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cache with one exported model, the model, and what preparing it said."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny").mkdir()
    save_tiny_llama(folder / "tiny")
    order = ("prepare", folder / "tiny", "--cache-folder", folder / "cache", "--device", "cpu")
    return folder / "cache", models(*order, "--weights", "int8", "--no-native")


@pytest.fixture
def cache(tmp_path):
    """One with an export, a conversion, a refusal and an unfinished one, of no real models."""
    for kind, name, about in (
        ("onnx", "new-w8a8", {"source": "None", "scheme": "w8a8"}),
        ("converted", "old", {"source": "/models/old.gguf"}),
        ("onnx", ".unfinished-1", None),
    ):
        folder = tmp_path / kind / name
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"x" * 1000)
        if about is not None:
            content = {**about, "files": {"weights": 1000}}
            (folder / MANIFEST_FILE).write_text(json.dumps(content))
    (tmp_path / "onnx" / "odd-refused-1.txt").write_text("it is odd")
    (tmp_path / "operators").mkdir()
    (tmp_path / "operators" / "a.so").write_bytes(b"x" * 2**20)
    os.utime(tmp_path / "converted" / "old" / MANIFEST_FILE, (0, 86_400 * 365))
    return tmp_path


def test_preparing_exports_the_model_and_says_so(prepared):
    cache, answer = prepared
    assert answer.exit_code == 0, answer.output
    assert "tiny is ready: int8 on onnx, cpu" in answer.stdout
    (entry,) = listed(cache)
    assert (entry["kind"], entry["scheme"]) == ("export", "int8")
    assert f"made export {entry['name']}" in answer.stdout
    assert entry["source"].endswith("tiny")
    assert entry["num_bytes"] > 10_000


def test_preparing_again_makes_nothing_and_is_a_use(prepared):
    cache, _ = prepared
    (before,) = listed(cache)
    os.utime(cache / "onnx" / before["name"] / MANIFEST_FILE, (0, 0))
    order = ("prepare", cache.parent / "tiny", "--cache-folder", cache, "--device", "cpu")
    answer = models(*order, "--weights", "int8", "--no-native")
    assert answer.exit_code == 0, answer.output
    assert "made" not in answer.stdout
    (after,) = listed(cache)
    assert after["used_at"] >= before["used_at"]


def test_a_model_that_cannot_be_prepared_fails(tmp_path):
    answer = models("prepare", tmp_path / "none", "--cache-folder", tmp_path)
    assert answer.exit_code == 1
    assert "no such file or folder" in answer.output


def test_the_list_shows_each_entry_for_what_it_is(cache):
    kinds = {entry["name"]: entry["kind"] for entry in listed(cache)}
    assert kinds == {
        "new-w8a8": "export",
        "old": "conversion",
        ".unfinished-1": "unfinished",
        "odd-refused-1.txt": "refusal",
    }
    assert listed(cache)[-1]["name"] == "old"  # last used long ago
    shown = models("list", "--cache-folder", cache).stdout
    assert "embedded default" in shown
    assert "1971-01-01" in shown
    assert "operators 1.0 MiB" in shown


def test_a_name_is_removed_and_nothing_else(cache):
    answer = models("remove", "new-w8a8", "--cache-folder", cache)
    assert answer.exit_code == 0, answer.output
    assert "removed new-w8a8" in answer.stdout
    assert not (cache / "onnx" / "new-w8a8").exists()
    assert len(listed(cache)) == 3


def test_what_was_not_used_for_long_is_removed(cache):
    models("remove", "--unused-days", 30, "--cache-folder", cache)
    assert sorted(entry["name"] for entry in listed(cache)) == [
        ".unfinished-1",
        "new-w8a8",
        "odd-refused-1.txt",
    ]


def test_all_are_removed(cache):
    models("remove", "--all", "--cache-folder", cache)
    assert listed(cache) == []
    assert (cache / "operators" / "a.so").exists()


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["nope"], "not in the cache", 1),
        ([], "one of them", 2),
        (["old", "--all"], "one of them", 2),
    ],
)
def test_mistakes_remove_nothing(cache, arguments, words, code):
    answer = models("remove", *arguments, "--cache-folder", cache)
    assert answer.exit_code == code
    assert words in answer.output
    assert len(listed(cache)) == 4
