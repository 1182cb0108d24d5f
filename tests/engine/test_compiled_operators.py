"""Operators compiled beforehand: each processor gets the fastest that it runs, of this version."""

import platform
import subprocess

import pytest

from engine import compiled_operators, native_library
from engine.compiled_operators import KINDS, compile_for_others, find_compiled
from engine.errors import NativeUnavailable
from engine.native_library import compile_library, find_compiler, instructions


@pytest.fixture
def x86_64(monkeypatch):
    """Whatever the machine, choosing is for x86-64."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return KINDS["x86_64"]


@pytest.fixture
def folder(tmp_path, x86_64):
    """A folder as if all had been compiled."""
    for kind in x86_64:
        compiled_operators._library(tmp_path, kind).touch()
    return tmp_path


def test_this_machine_finds_one_that_it_runs():
    """Every kind that is said to suit this processor is loaded by it: see test_operators.py."""
    kinds = KINDS[platform.machine()]
    assert any(kind.needs <= instructions() for kind in kinds)


def test_each_processor_gets_the_fastest_it_can_run(folder, x86_64):
    for kind in x86_64:
        found = find_compiled(folder, has=kind.needs | {"fpu"})
        assert found.name.startswith(f"operators-{kind.name}-")


def test_one_instruction_less_gives_an_older_kind(folder, x86_64):
    newest, *_, oldest = x86_64
    for instruction in newest.needs:
        has = newest.needs - {instruction}
        if oldest.needs <= has:
            assert f"-{newest.name}-" not in find_compiled(folder, has=has).name
        else:
            with pytest.raises(NativeUnavailable, match="newer processors"):
                find_compiled(folder, has=has)


def test_a_kind_that_is_not_there_is_passed_over(folder, x86_64):
    newest, second = x86_64[0], x86_64[2]
    compiled_operators._library(folder, newest).unlink()
    found = find_compiled(folder, has=newest.needs)
    assert found == compiled_operators._library(folder, second)


def test_libraries_of_another_version_are_not_found(folder, x86_64, tmp_path, monkeypatch):
    sources = tmp_path / "native"
    sources.mkdir()
    (sources / "operators.cpp").write_text("// another version")
    monkeypatch.setattr(native_library, "SOURCES", sources)
    with pytest.raises(NativeUnavailable, match="beamline operators"):
        find_compiled(folder, has=x86_64[0].needs)


def test_another_family_of_processors_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    with pytest.raises(NativeUnavailable, match="s390x"):
        next(compile_for_others(tmp_path))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the compiler's flags are x86-64's")
def test_a_library_needs_no_more_than_its_kind_says():
    """The compiler uses what its flags allow: what the kind asks for, and no more."""
    for kind in KINDS["x86_64"]:
        defined = defined_by_compiler(kind.targets)
        for macro, instruction in MACROS.items():
            assert (macro in defined) == (instruction in kind.needs), (kind.name, macro)


# What the compiler says it may use, for those that differ between processors of the last 15 years.
MACROS = {
    "__AVX__": "avx",
    "__AVX2__": "avx2",
    "__AVX512BW__": "avx512bw",
    "__AVX512CD__": "avx512cd",
    "__AVX512DQ__": "avx512dq",
    "__AVX512F__": "avx512f",
    "__AVX512VL__": "avx512vl",
    "__AVX512VNNI__": "avx512_vnni",
    "__AVX512VBMI__": "avx512vbmi",
    "__AVX512BF16__": "avx512_bf16",
    "__AVXVNNI__": "avx_vnni",
    "__BMI__": "bmi1",
    "__BMI2__": "bmi2",
    "__F16C__": "f16c",
    "__FMA__": "fma",
    "__GFNI__": "gfni",
    "__LZCNT__": "abm",
    "__MOVBE__": "movbe",
    "__POPCNT__": "popcnt",
    "__SSE4_2__": "sse4_2",
    "__XSAVE__": "xsave",
}


def defined_by_compiler(targets):
    command = [find_compiler(), *targets, "-dM", "-E", "-x", "c++", "/dev/null"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[1] for line in text.splitlines()}


def test_what_fails_to_compile_leaves_nothing(tmp_path):
    library = tmp_path / "operators" / "a.so"
    with pytest.raises(NativeUnavailable, match="no-such-flag"):
        compile_library(find_compiler(), ("-fno-such-flag",), library)
    assert list(library.parent.iterdir()) == []
