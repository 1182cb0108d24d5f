"""Compiles our operators for ONNX Runtime on this machine, once. Called by the composition root.

They are C++ in `native/`, compiled for the very processor, so a library is found again only where
sources, compiler and processor are the same. Needs a C++ compiler (GCC or Clang); without one the
service takes what `compiled_operators.py` made elsewhere, or ONNX Runtime's own operators.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.errors import NativeUnavailable

SOURCES = Path(__file__).parent / "native"
COMPILERS = ("g++", "clang++", "c++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-Wno-psabi")
THIS_PROCESSOR = "-march=native"
COMPILE_SECONDS = 300
_CPU_INFO = Path("/proc/cpuinfo")


def build_native_library(
    folder: Path, *, compiler: str | None = None, target: str = THIS_PROCESSOR
) -> Path:
    """The compiled operators in `folder`, made now if they are not there yet.

    Args:
        folder: where libraries are kept; made if missing.
        compiler: a C++ compiler; None looks for one.
        target: the compiler's flag for the processors to compile for.

    Raises:
        NativeUnavailable: there is no compiler, or it fails; the message says why.
    """
    program = find_compiler(compiler)
    library = folder / f"operators-{_digest(program, target)}.so"
    if not library.is_file():
        compile_library(program, (target,), library)
    return library


def find_compiler(given: str | None = None) -> str:
    """The C++ compiler that was given, else one of this machine.

    Raises:
        NativeUnavailable: there is none.
    """
    program = given or next(filter(None, map(shutil.which, COMPILERS)), None)
    if program is None:
        raise NativeUnavailable("this machine has no C++ compiler; install g++ for faster answers")
    return program


def compile_library(program: str, targets: Sequence[str], library: Path) -> None:
    """Compile the operators with these flags for processors; the library is there whole or not.

    Raises:
        NativeUnavailable: the compiler fails, or the folder cannot be written.
    """
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            made = Path(scratch) / library.name
            command = [program, *FLAGS, *targets, str(SOURCES / "operators.cpp"), "-o", str(made)]
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS
            )
            made.replace(library)
    except subprocess.CalledProcessError as error:
        raise NativeUnavailable(f"{program} failed: {error.stderr.strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"the operators cannot be compiled: {error}") from error


def _digest(program: str, target: str) -> str:
    """Of everything that decides what the compiler makes."""
    about = (sources_digest(), target, _version(program), _processor())
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def sources_digest() -> str:
    """Of what is compiled and how, whatever the processor."""
    parts = hashlib.sha256(repr(FLAGS).encode())
    for source in sorted(SOURCES.iterdir()):
        parts.update(source.read_bytes())
    return parts.hexdigest()[:16]


def _version(program: str) -> str:
    try:
        return subprocess.run(
            [program, "--version"], check=True, capture_output=True, text=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NativeUnavailable(f"{program} does not run: {error}") from error


def _processor() -> str:
    """The instructions it knows, as far as the system tells."""
    if os.access(_CPU_INFO, os.R_OK):
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()}"


def processor_digest() -> str:
    """Tells kinds of processors apart."""
    return hashlib.sha256(_processor().encode()).hexdigest()[:16]


def instructions() -> frozenset[str]:
    """The same, one by one."""
    return frozenset(_processor().partition(":")[2].split())
