"""The command line: every setting is an option, and mistakes are one clean line each."""

import logging
import re
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.commands.setting_options import PANELS
from app.settings import ENVIRONMENT_ONLY, Settings


@pytest.fixture(autouse=True)
def clean_process(monkeypatch):
    """No settings from outside; logging as it was, since `serve` sets it up."""
    monkeypatch.setattr("os.environ", {"PATH": "", "HOME": "/nowhere", "COLUMNS": "200"})
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def invoke(*arguments: str):
    return CliRunner().invoke(app, arguments)


def plain(text: str) -> str:
    """Text without colours and box lines, whitespace folded."""
    return re.sub(r"[│\s]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def test_every_setting_but_secrets_is_an_option_of_exactly_one_panel():
    names = [name for panel in PANELS.values() for name in panel]
    assert sorted([*names, *ENVIRONMENT_ONLY]) == sorted(Settings.model_fields)


def test_help_lists_each_option_with_its_default():
    text = plain(invoke("serve", "--help").output)
    for name in Settings.model_fields.keys() - ENVIRONMENT_ONLY:
        assert f"--{name.replace('_', '-')}" in text
    for name in ENVIRONMENT_ONLY:
        assert f"--{name.replace('_', '-')} " not in text
        assert f"BEAMLINE_{name.upper()}" in text
    assert "Default: 8000" in text
    assert "a GGUF file" in text


def test_help_names_types_as_users_know_them():
    assert "typing" not in plain(invoke("serve", "--help").output)


def test_version_is_printed():
    result = invoke("--version")
    assert result.exit_code == 0
    assert re.fullmatch(r"beamline \d+\.\d+\.\d+\n", result.output)


def test_bare_command_shows_help():
    assert "serve" in invoke().output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--port", "99999"], "--port .*65535"),
        (["--port", "eight"], "--port"),
        (["--dtype", "int8"], "--dtype"),
        (["--max-rows", "600"], "max_rows"),
        (["--warp", "9"], "--warp"),
    ],
)
def test_wrong_option_is_a_usage_error_that_names_it(arguments, problem):
    result = invoke("serve", *arguments)
    assert result.exit_code == 2
    assert re.search(problem, plain(result.output))


def test_model_that_is_not_there_fails_before_the_server_starts(tmp_path):
    result = invoke("serve", "--port", "0", "--model", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert result.output.startswith("error: ")
    assert "Traceback" not in result.output


def test_taken_port_fails_before_the_model_is_looked_at(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = invoke("serve", "--port", port, "--model", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 is in use" in plain(result.output)


def test_brackets_in_a_name_are_printed_as_they_are(tmp_path):
    result = invoke("serve", "--port", "0", "--model", str(tmp_path / "[bold]x"))
    assert "[bold]x" in plain(result.output).replace(" ", "")


def test_help_waits_for_no_library_that_computes():
    heavy = {"torch", "transformers", "onnxruntime", "fastapi", "numpy"}
    program = f"import sys, app.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
