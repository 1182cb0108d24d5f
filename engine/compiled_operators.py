"""Our operators compiled beforehand, for machines without a compiler: containers above all.

`compile_for_others` makes a folder of libraries, one for each kind of processor of this machine's
family; `find_compiled` takes the fastest of them that this processor can run. A library's name
holds a digest of its sources, so one that was made for another version is not found.
"""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import NativeUnavailable
from engine.native_library import compile_library, find_compiler, instructions, sources_digest

LEVEL_2 = ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")
LEVEL_3 = (*LEVEL_2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
LEVEL_4 = (*LEVEL_3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")


@dataclass(frozen=True, slots=True)
class ProcessorKind:
    """Processors that one library is for."""

    name: str
    targets: tuple[str, ...]  # the compiler's flags
    needs: frozenset[str]  # instructions, as /proc/cpuinfo calls them


# The fastest first. On x86-64 the operators are written for products of 8 bits in 512 bits, in 256
# bits, and without; the level of each is that of the x86-64 psABI.
KINDS: Mapping[str, tuple[ProcessorKind, ...]] = {
    "x86_64": (
        ProcessorKind(
            "x86-64-v4-vnni",
            ("-march=x86-64-v4", "-mavx512vnni"),
            frozenset((*LEVEL_4, "avx512_vnni")),
        ),
        ProcessorKind(
            "x86-64-v3-vnni", ("-march=x86-64-v3", "-mavxvnni"), frozenset((*LEVEL_3, "avx_vnni"))
        ),
        ProcessorKind("x86-64-v3", ("-march=x86-64-v3",), frozenset(LEVEL_3)),
        ProcessorKind("x86-64-v2", ("-march=x86-64-v2",), frozenset(LEVEL_2)),
    ),
    "aarch64": (ProcessorKind("armv8-a", ("-march=armv8-a",), frozenset(("asimd",))),),
}


def compile_for_others(folder: Path, *, compiler: str | None = None) -> Iterator[Path]:
    """Compile the operators into `folder` for each kind of processor, and give each library.

    Raises:
        NativeUnavailable: there is no compiler, it fails, or the family of processors is unknown.
    """
    program = find_compiler(compiler)
    for kind in _kinds():
        library = _library(folder, kind)
        if not library.is_file():
            compile_library(program, kind.targets, library)
        yield library


def find_compiled(folder: Path, *, has: frozenset[str] | None = None) -> Path:
    """The fastest library in `folder` that a processor can run.

    Args:
        folder: what `compile_for_others` made.
        has: the processor's instructions; None looks at this one.

    Raises:
        NativeUnavailable: there is none; the message says why.
    """
    known = instructions() if has is None else has
    runnable = [kind for kind in _kinds() if kind.needs <= known]
    if not runnable:
        raise NativeUnavailable("operators are compiled beforehand for newer processors only")
    found = (_library(folder, kind) for kind in runnable)
    library = next((each for each in found if each.is_file()), None)
    if library is None:
        raise NativeUnavailable(
            f"{folder} holds no operators of this version for {runnable[0].name}: "
            "make them with `beamline operators`"
        )
    return library


def _kinds() -> tuple[ProcessorKind, ...]:
    machine = platform.machine()
    if machine not in KINDS:
        raise NativeUnavailable(f"operators cannot be compiled beforehand for {machine}")
    return KINDS[machine]


def _library(folder: Path, kind: ProcessorKind) -> Path:
    return folder / f"operators-{kind.name}-{sources_digest()}.so"
