"""The operators are compiled once, and a machine that cannot do so is told apart."""

import pytest

from engine.errors import NativeUnavailable
from engine.native_library import build_native_library


def test_a_library_is_compiled_once(native_library):
    before = native_library.stat().st_mtime_ns
    assert build_native_library(native_library.parent) == native_library
    assert native_library.stat().st_mtime_ns == before


def test_compiling_leaves_nothing_else_behind(native_library):
    assert list(native_library.parent.iterdir()) == [native_library]


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailable, match=r"install g\+\+"):
        build_native_library(tmp_path / "operators")


def test_a_compiler_that_does_not_run_is_reported(tmp_path):
    with pytest.raises(NativeUnavailable, match="does not run"):
        build_native_library(tmp_path, compiler=str(tmp_path / "no-compiler"))


def test_a_compiler_that_fails_is_reported_with_its_words(tmp_path):
    broken = tmp_path / "broken-compiler"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "no such flag" >&2; exit 1; }\n')
    broken.chmod(0o755)
    with pytest.raises(NativeUnavailable, match="no such flag"):
        build_native_library(tmp_path / "operators", compiler=str(broken))
    assert list((tmp_path / "operators").iterdir()) == []
