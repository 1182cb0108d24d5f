"""`beamline operators` makes what a service without a compiler finds, and says if it cannot."""

from typer.testing import CliRunner

from app.cli import app
from engine.compiled_operators import find_compiled


def operators(folder):
    return CliRunner().invoke(app, ["operators", str(folder)], env={"COLUMNS": "200"})


def test_what_is_made_is_told_and_found(tmp_path):
    answer = operators(tmp_path / "new")
    assert answer.exit_code == 0, answer.output
    made = sorted(str(path) for path in (tmp_path / "new").iterdir())
    assert sorted(answer.stdout.split()) == made
    assert str(find_compiled(tmp_path / "new")) in made


def test_a_machine_without_a_compiler_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = operators(tmp_path / "new")
    assert answer.exit_code == 1
    assert "install g++" in answer.output
