"""Operators that compute something else on this machine are found out before they serve."""

import shutil

import numpy as np
import pytest

from engine import native_library
from engine.config import EngineConfig
from engine.errors import NativeUnavailable
from engine.native_check import check_native, trial_config
from engine.native_runner import BLOCK_TOKENS, NativeRunner
from engine.onnx_runner import OnnxRunner
from optimize.onnx_graph import DATA_FILE
from optimize.onnx_manifest import GRAPH_FILE, NATIVE_GRAPH_FILE
from tests.engine.exports import decoder_shape

CONFIG = EngineConfig(max_rows=12, block_size=BLOCK_TOKENS, num_threads=1, kv_cache_bytes=2**24)


def native_runner(exported, library):
    folder, manifest = exported
    return NativeRunner.load(
        folder / NATIVE_GRAPH_FILE,
        library,
        decoder_shape(manifest),
        CONFIG,
        vocab_size=manifest.vocab_size,
    )


def reference(exported):
    folder, manifest = exported
    shape = decoder_shape(manifest)
    config = trial_config(shape, CONFIG)
    return OnnxRunner.load(folder / GRAPH_FILE, shape, config, vocab_size=manifest.vocab_size)


def test_our_operators_pass_and_leave_the_cache_empty(exported, native_library):
    runner = native_runner(exported, native_library)
    check_native(runner, reference(exported))
    assert runner.cache.num_used_tokens == 0


def test_other_weights_are_found_out(exported, native_library, tmp_path):
    folder, manifest = exported
    copy = shutil.copytree(folder, tmp_path / "other")
    data = np.fromfile(copy / DATA_FILE, np.uint8)
    data[3::8] ^= 0x80  # the sign of every second float, or of every eighth small integer
    data.tofile(copy / DATA_FILE)
    with pytest.raises(NativeUnavailable, match="standard deviations"):
        check_native(native_runner((copy, manifest), native_library), reference(exported))


def test_operators_compiled_wrong_are_found_out(exported, tmp_path, monkeypatch):
    """A compiler's fault, played by a source whose queries do not weigh their own token."""
    sources = shutil.copytree(native_library.SOURCES, tmp_path / "native")
    header = sources / "attention.h"
    text = header.read_text()
    right, wrong = "begin(position), position + 1)", "begin(position), position)"
    assert text.count(right) == 1
    header.write_text(text.replace(right, wrong))
    monkeypatch.setattr(native_library, "SOURCES", sources)
    library = native_library.build_native_library(tmp_path / "operators")
    with pytest.raises(NativeUnavailable, match="standard deviations"):
        check_native(native_runner(exported, library), reference(exported))
