"""Records what llama.cpp's own samplers do to rows of logits, for `test_llama_cpp_samplers`.

    python -m venv FOLDER && FOLDER/bin/pip install --no-deps llama-cpp-cffi==0.4.42
    cd tests/decoding/llama_cpp && FOLDER/bin/python record_samplers.py > samplers.json

The package carries llama.cpp compiled (the wheel has 290 MB, most of it for other devices), so the
tests do not install it: they compare with the record. Needs nothing of ours, and no model: samplers
work on logits.
"""

import ctypes
import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

VOCAB_SIZE = 48
SPREADS = (0.4, 1.5, 4.0)
ROWS_A_SPREAD = 2
HISTORY = (3, 5, 7, 9, 3, 5, 7, 2, 11, 3, 5, 7, 9, 4, 3, 5, 7)

Parameters = Mapping[str, float]
CASES: Mapping[str, Sequence[Parameters]] = {
    "temp": [{"t": 0.3}, {"t": 2.0}],
    "temp_ext": [
        {"t": 0.9, "delta": 0.5, "exponent": 1.0},
        {"t": 1.0, "delta": 0.9, "exponent": 3.0},
    ],
    "top_k": [{"k": 1}, {"k": 7}],
    "top_p": [{"p": 0.3}, {"p": 0.9}],
    "min_p": [{"p": 0.02}, {"p": 0.3}],
    "typical": [{"p": 0.2}, {"p": 0.9}],
    "top_n_sigma": [{"n": 0.5}, {"n": 1.5}],
    "xtc": [{"p": 1.0, "t": 0.05}, {"p": 1.0, "t": 0.12}],
    "mirostat_v2": [{"tau": 1.0}, {"tau": 2.5}],
    "penalties": [
        {"repeat": 1.7, "freq": 0.0, "present": 0.0},
        {"repeat": 1.0, "freq": 0.6, "present": 0.9},
    ],
    "dry": [
        {"multiplier": 0.8, "base": 1.75, "allowed_length": 2},
        {"multiplier": 2.0, "base": 1.2, "allowed_length": 1},
    ],
}
"""Parameters of each sampler, under llama.cpp's names."""


class TokenData(ctypes.Structure):
    """llama_token_data."""

    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class TokenDataArray(ctypes.Structure):
    """llama_token_data_array."""

    _fields_ = (
        ("data", ctypes.POINTER(TokenData)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class LlamaCpp:
    """The library's samplers."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path), handle=_open_lazily(path))
        self._library.llama_sampler_apply.argtypes = (
            ctypes.c_void_p,
            ctypes.POINTER(TokenDataArray),
        )
        self._library.llama_sampler_accept.argtypes = (ctypes.c_void_p, ctypes.c_int32)

    def apply(self, name: str, parameters: Parameters, logits: Sequence[float]) -> dict[int, float]:
        """The tokens that a sampler leaves, with the logits it gives them."""
        sampler = self._build(name, parameters)
        for token_id in HISTORY if name in ("penalties", "dry") else ():
            self._library.llama_sampler_accept(sampler, token_id)
        data = (TokenData * len(logits))(
            *(TokenData(at, logit, 0.0) for at, logit in enumerate(logits))
        )
        array = TokenDataArray(data, len(logits), -1, False)
        self._library.llama_sampler_apply(sampler, ctypes.byref(array))
        left = (array.data[at] for at in range(array.size))
        return {each.id: each.logit for each in left if each.logit > -1e30}

    def _build(self, name: str, parameters: Parameters) -> ctypes.c_void_p:
        real, whole, unsigned = ctypes.c_float, ctypes.c_int32, ctypes.c_uint32
        keep_one, values = ctypes.c_size_t(1), list(parameters.values())
        if name == "dry":
            # The form for llama.cpp's own tests takes breakers as tokens; here there are none.
            name = "dry_testing"
            breakers = ctypes.create_string_buffer(24)  # an empty std::vector
            build = self._library[
                "_Z30llama_sampler_init_dry_testingiffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"
            ]
            arguments = [
                *(whole(1024), real(values[0]), real(values[1])),
                *(whole(int(values[2])), whole(-1), breakers),
            ]
        else:
            build = self._library[f"llama_sampler_init_{name}"]
            arguments = [real(value) for value in values]
        if name == "top_k":
            arguments = [whole(int(values[0]))]
        elif name in ("top_p", "min_p", "typical"):
            arguments.append(keep_one)
        elif name == "xtc":
            arguments += [keep_one, unsigned(1)]
        elif name == "mirostat_v2":
            arguments = [unsigned(1), real(values[0]), real(0.1)]
        elif name == "penalties":
            arguments.insert(0, whole(len(HISTORY)))
        build.restype = ctypes.c_void_p
        return ctypes.c_void_p(build(*arguments))


def _open_lazily(path: Path) -> int:
    """A handle; what an older C++ library lacks is only missed where it is called."""
    system = ctypes.CDLL(None)
    system.dlopen.restype = ctypes.c_void_p
    handle = system.dlopen(str(path).encode(), ctypes.c_int(os.RTLD_LAZY))
    if not handle:
        system.dlerror.restype = ctypes.c_char_p
        raise OSError(system.dlerror().decode())
    return int(handle)


def rows() -> Iterator[list[float]]:
    """Rows of logits; three decimals, so that the record holds them exactly."""
    numbers = random.Random(7)
    for spread in SPREADS:
        for _ in range(ROWS_A_SPREAD):
            yield [round(numbers.gauss(0, spread), 3) for _ in range(VOCAB_SIZE)]


def main() -> None:
    """Print the record."""
    package = distribution("llama-cpp-cffi")
    (path,) = (file for file in package.files or () if "_llama_cpp_cpu" in file.name)
    library = LlamaCpp(Path(str(package.locate_file(path))))
    logits = list(rows())
    record = {
        "source": f"llama-cpp-cffi {package.version}",
        "history": HISTORY,
        "logits": logits,
        "cases": [
            {
                "sampler": name,
                "parameters": parameters,
                "left": [
                    {
                        token: round(logit, 4)
                        for token, logit in library.apply(name, parameters, row).items()
                    }
                    for row in logits
                ],
            }
            for name, variants in CASES.items()
            for parameters in variants
        ],
    }
    json.dump(record, sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
