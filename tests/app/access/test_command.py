"""`beamline keys`: what it prints, what it writes, and what it refuses."""

import json
import re

import pytest
from typer.testing import CliRunner

from app.access.key_file import read_key_file
from app.access.keys import Keyring, RateLimits
from app.access.scopes import Scope
from app.cli import app


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "folder" / "keys.json"

    def keys(*arguments):
        return CliRunner().invoke(
            app, ["keys", *arguments], env={"BEAMLINE_KEYS_FILE": str(path), "COLUMNS": "200"}
        )

    keys.path = path
    return keys


def find(keys, secret):
    entries = read_key_file(keys.path).keys
    return Keyring(entry.as_key(RateLimits()) for entry in entries).find(secret.encode())


def test_added_key_is_printed_once_and_kept_as_a_hash(keys):
    result = keys("add", "alice")
    assert result.exit_code == 0
    secret = result.stdout.strip()
    assert re.fullmatch(r"sk-beamline-[\w-]{43}", secret)
    assert secret not in keys.path.read_text()
    assert find(keys, secret).name == "alice"
    assert find(keys, secret).scopes == {Scope.GENERATE}
    assert secret not in keys("list").output


def test_scopes_and_limits_are_kept(keys):
    arguments = ("--scope", "admin", "--scope", "metrics", "--requests-per-minute", "60")
    secret = keys("add", "ops", *arguments, "--tokens-per-minute", "unlimited").stdout.strip()
    key = find(keys, secret)
    assert key.scopes == {Scope.ADMIN, Scope.METRICS}
    assert key.limits == RateLimits(requests_per_minute=60)
    listed = keys("list").output
    assert all(word in listed for word in ("ops", "admin metrics", "60", "unlimited"))


def test_revoked_key_is_gone_and_others_stay(keys):
    first, second = (keys("add", name).stdout.strip() for name in ("one", "two"))
    assert keys("revoke", "one").exit_code == 0
    assert find(keys, first) is None
    assert find(keys, second).name == "two"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "problem"),
    [
        (["add", "one"], 1, "there is a key named one already"),
        (["add", "a b"], 2, "a name has up to 64 letters"),
        (["add", "two", "--tokens-per-minute", "0"], 2, "--tokens-per-minute is 1 to"),
        (["add", "two", "--scope", "root"], 2, "root"),
        (["revoke", "two"], 1, "there is no key named two"),
    ],
)
def test_mistake_is_one_clean_line_and_changes_nothing(keys, arguments, exit_code, problem):
    keys("add", "one")
    before = keys.path.read_text()
    result = keys(*arguments)
    assert result.exit_code == exit_code
    assert problem in re.sub(r"[│\s]+", " ", result.output)
    assert "Traceback" not in result.output
    assert keys.path.read_text() == before


def test_broken_file_is_not_written_over(keys):
    keys("add", "one")
    keys.path.write_text(json.dumps({"version": 7}))
    result = keys("add", "two")
    assert result.exit_code == 1
    assert "version" in result.output
    assert json.loads(keys.path.read_text()) == {"version": 7}
