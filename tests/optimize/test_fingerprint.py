"""Hashes are right, and computed again only when the file may have changed."""

import hashlib
import os

import pytest

from optimize.fingerprint import file_sha256


@pytest.fixture
def big_file(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"weights" * 1000)
    return path


@pytest.fixture
def reports():
    return []


@pytest.fixture
def fingerprint(tmp_path, reports):
    return lambda path: file_sha256(path, tmp_path / "memory", reports.append)


def test_hash_is_that_of_the_content(fingerprint, big_file):
    assert fingerprint(big_file) == hashlib.sha256(big_file.read_bytes()).hexdigest()


def test_unchanged_file_is_not_read_again(fingerprint, big_file, reports):
    first = fingerprint(big_file)
    assert reports == [1.0]
    assert fingerprint(big_file) == first
    assert reports == [1.0]


def test_changed_file_of_the_same_size_is_read_again(fingerprint, big_file):
    first = fingerprint(big_file)
    big_file.write_bytes(b"WEIGHTS" * 1000)
    os.utime(big_file, ns=(1, 1))
    assert fingerprint(big_file) != first


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json"])
def test_damaged_memory_is_replaced(fingerprint, big_file, tmp_path, content):
    first = fingerprint(big_file)
    (memory,) = (tmp_path / "memory").iterdir()
    memory.write_text(content)
    assert fingerprint(big_file) == first
    assert first in memory.read_text()
