"""Smooths an exported float graph by factors drawn at random, and runs it before and after.

Random factors are far from harmless ones, so a factor that is divided out in one place and not
multiplied back in the other shows in the logits.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import OnnxManifest, read_manifest
from optimize.onnx_session import Chunk, RowSession, open_session
from optimize.onnx_structure import find_sites
from optimize.smoothing import rotate_head, smooth

NUM_TOKENS = 24
MAX_SIZE = 16.0  # of a channel; the smallest is its inverse


def smoothed_logits(folder: Path, scratch: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [vocab] of the export in `folder`, and of its smoothed and rotated twin."""
    manifest = read_manifest(folder)
    graph = OnnxGraph.load(folder)
    sites = find_sites(graph)
    generator = np.random.default_rng(0)
    exponents = {site.value: generator.uniform(-1, 1, _width(graph, site.matmuls[0].input[1]))
                 for site in sites}  # fmt: skip
    channels = {value: (MAX_SIZE**of).astype(np.float32) for value, of in exponents.items()}
    smooth(graph, sites, channels, manifest.attention)
    rotate_head(graph, sites[-1])
    graph.save(scratch)
    return _logits(folder, manifest), _logits(scratch, manifest)


def _width(graph: OnnxGraph, matrix: str) -> int:
    return len(graph.weight(matrix))


def _logits(folder: Path, manifest: OnnxManifest) -> NDArray[np.float32]:
    session = open_session(folder, num_threads=1)
    rows = RowSession(session, manifest, rows=1, max_length=NUM_TOKENS)
    ids = np.arange(2, 2 + NUM_TOKENS, dtype=np.int64)[None]
    (logits,) = rows.forward(Chunk(first_row=0, token_ids=ids, lengths=[NUM_TOKENS]))
    last: NDArray[np.float32] = logits[0, -1]
    return last
