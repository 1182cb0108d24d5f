"""Keys follow their file, and survive a file that breaks."""

import pytest

from app.access.key_file import KeyEntry, KeyFile, KeyFileError, write_key_file
from app.access.key_store import CHECK_SECONDS, KeyStore
from app.access.keys import ApiKey, RateLimits, digest_of
from app.access.scopes import Scope


def entry(name):
    return KeyEntry(name=name, sha256=digest_of(name.encode()).hex(), scopes=[Scope.GENERATE])


def write(path, *names):
    write_key_file(path, KeyFile(keys=[entry(name) for name in names]))


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "keys.json", "first")
    return tmp_path / "keys.json"


@pytest.fixture
def store(path, clock):
    fixed = ApiKey(
        name="fixed",
        digest=digest_of(b"fixed"),
        scopes=frozenset({Scope.ADMIN}),
        limits=RateLimits(),
    )
    store = KeyStore(fixed=[fixed], path=path, defaults=RateLimits(), clock=clock)
    store.load()
    return store


def known(store, *names):
    return [name for name in names if store.keyring().find(name.encode()) is not None]


def test_keys_of_settings_and_file_both_count(store):
    assert known(store, "fixed", "first", "second") == ["fixed", "first"]


def test_change_takes_effect_after_a_second(store, path, clock):
    write(path, "second")
    assert known(store, "first", "second") == ["first"]
    clock.now += CHECK_SECONDS
    assert known(store, "fixed", "first", "second") == ["fixed", "second"]


@pytest.mark.parametrize("damage", ["break", "remove"])
def test_damaged_file_changes_nothing_and_is_logged_once(store, path, clock, caplog, damage):
    if damage == "break":
        path.write_text("{")
    else:
        path.unlink()
    for _ in range(3):
        clock.now += CHECK_SECONDS
        assert known(store, "first") == ["first"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the keys stay as they were" in caplog.text
    write(path, "second")
    clock.now += CHECK_SECONDS
    assert known(store, "first", "second") == ["second"]


def test_empty_file_locks_everybody_out(store, path, clock):
    write(path)
    clock.now += CHECK_SECONDS
    assert known(store, "first") == []


def test_store_refuses_to_start_on_a_broken_file(tmp_path, clock):
    store = KeyStore(fixed=[], path=tmp_path / "none", defaults=RateLimits(), clock=clock)
    with pytest.raises(KeyFileError):
        store.load()


def test_name_of_a_fixed_key_is_taken(store, path, clock, caplog):
    write(path, "fixed")
    clock.now += CHECK_SECONDS
    assert known(store, "first") == ["first"]
    assert "fixed is the name of a key that was given by the environment" in caplog.text
