"""What the file with the keys may hold, and how it is replaced."""

import json
import stat

import pytest

from app.access.key_file import KeyEntry, KeyFile, KeyFileError, read_key_file, write_key_file
from app.access.keys import RateLimits
from app.access.scopes import Scope

DIGEST = "ab" * 32
ENTRY = {"name": "one", "sha256": DIGEST, "scopes": ["generate"]}


def write(path, *entries, **fields):
    path.write_text(json.dumps({"version": 1, "keys": entries} | fields))
    return path


def test_keys_come_back_as_they_were_written(tmp_path):
    entry = KeyEntry(
        name="one", sha256=DIGEST, scopes=[Scope.ADMIN], requests_per_minute="unlimited"
    )
    write_key_file(tmp_path / "keys", KeyFile(keys=[entry]))
    assert read_key_file(tmp_path / "keys").keys == [entry]


def test_file_is_for_its_owner_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "keys"
    write_key_file(path, KeyFile())
    write_key_file(path, KeyFile())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, RateLimits(requests_per_minute=5, tokens_per_minute=7)),
        ({"requests_per_minute": 9}, RateLimits(requests_per_minute=9, tokens_per_minute=7)),
        ({"tokens_per_minute": "unlimited"}, RateLimits(requests_per_minute=5)),
    ],
)
def test_limits_of_a_key_win_over_the_defaults(tmp_path, given, limits):
    [entry] = read_key_file(write(tmp_path / "keys", ENTRY | given)).keys
    defaults = RateLimits(requests_per_minute=5, tokens_per_minute=7)
    assert entry.as_key(defaults).limits == limits


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([ENTRY | {"sha256": "abc"}], r"keys\.0\.sha256"),
        ([ENTRY | {"name": "a b"}], r"keys\.0\.name"),
        ([ENTRY | {"scopes": ["root"]}], r"keys\.0\.scopes"),
        ([ENTRY | {"scopes": []}], r"keys\.0\.scopes"),
        ([ENTRY | {"tokens_per_minute": 0}], r"keys\.0\.tokens_per_minute"),
        ([ENTRY | {"secret": "x"}], r"keys\.0\.secret"),
        ([ENTRY, ENTRY | {"sha256": "cd" * 32}], "name one is there twice"),
        ([ENTRY, ENTRY | {"name": "two"}], f"sha256 {DIGEST} is there twice"),
    ],
)
def test_unusable_entry_is_named(tmp_path, entries, problem):
    with pytest.raises(KeyFileError, match=problem):
        read_key_file(write(tmp_path / "keys", *entries))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(KeyFileError, match="version"):
        read_key_file(write(tmp_path / "keys", version=2))
    (tmp_path / "text").write_text("sk-1234")
    with pytest.raises(KeyFileError, match="the file"):
        read_key_file(tmp_path / "text")
    with pytest.raises(KeyFileError, match="beamline keys add"):
        read_key_file(tmp_path / "none")
