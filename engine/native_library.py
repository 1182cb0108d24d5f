"""Compiles our operators for ONNX Runtime on this machine, once. Called by the composition root.

They are C++ in `native/`, compiled for the very processor, so a library is found again only where
sources, compiler and processor are the same. Needs a C++ compiler (GCC or Clang); without one the
service runs on ONNX Runtime's own operators.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
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
    program = compiler or next(filter(None, map(shutil.which, COMPILERS)), None)
    if program is None:
        raise NativeUnavailable("this machine has no C++ compiler; install g++ for faster answers")
    library = folder / f"operators-{_digest(program, target)}.so"
    if not library.is_file():
        _compile(program, target, library)
    return library


def _compile(program: str, target: str, library: Path) -> None:
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            made = Path(scratch) / library.name
            command = [program, *FLAGS, target, str(SOURCES / "operators.cpp"), "-o", str(made)]
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
    parts = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        parts.update(source.read_bytes())
    parts.update(repr((FLAGS, target, _version(program), _processor())).encode())
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
