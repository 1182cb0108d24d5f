"""How fast an exported graph runs on ONNX Runtime, and what it takes. Called by `onnx_variant`.

The bare loop without a server: one token a step for one row and for eight, and a prompt in pieces
as they are served. Medians of several repeats; a serving machine with our own operators is faster.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from optimize.onnx_manifest import OnnxManifest, read_manifest
from optimize.onnx_session import Chunk, RowSession, open_session
from optimize.optimization_report import Costs
from optimize.report import Report

BATCH = 8
PROMPT_TOKENS = 512
PIECE_TOKENS = 64
_STEPS = 24
_REPEATS = 3
_SEED = 0


def measure_costs(folder: Path, *, num_threads: int, report: Report) -> Costs:
    """Open the graph in `folder` and time it."""
    manifest = read_manifest(folder)
    length = min(PROMPT_TOKENS, manifest.context_length)
    rows = _open(folder, manifest, num_threads)
    speeds = []
    works = (_decoding(rows, manifest, 1, length), _decoding(rows, manifest, BATCH, length),
             _reading(rows, manifest, length))  # fmt: skip
    for at, (num_tokens, work) in enumerate(works):
        speeds.append(_speed(num_tokens, work))
        report((at + 1) / len(works))
    one_stream, batch_8, prefill = speeds
    return Costs(
        disk_bytes=sum(file.stat().st_size for file in folder.glob("*.onnx*")),
        memory_bytes=_memory_bytes(folder, num_threads),
        one_stream=one_stream,
        batch_8=batch_8,
        prefill=prefill,
    )


Work = tuple[int, Callable[[], None]]  # tokens, and what computes them


def measure_growth(folder: Path, num_threads: int) -> int:
    """By how many bytes this process grows when it opens the graph and computes a step."""
    manifest = read_manifest(folder)
    before = psutil.Process().memory_info().rss
    _, work = _decoding(_open(folder, manifest, num_threads), manifest, BATCH, 1)
    work()
    return int(psutil.Process().memory_info().rss) - before


def _memory_bytes(folder: Path, num_threads: int) -> int:
    """The same in a process of its own: one that has freed memory would not grow by as much."""
    program = (
        "import sys; from pathlib import Path; from optimize.onnx_speed import measure_growth; "
        "print(measure_growth(Path(sys.argv[1]), int(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(folder), str(num_threads)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _open(folder: Path, manifest: OnnxManifest, num_threads: int) -> RowSession:
    session = open_session(folder, num_threads=num_threads)
    length = min(PROMPT_TOKENS, manifest.context_length)
    return RowSession(session, manifest, rows=BATCH, max_length=length)


def _decoding(rows: RowSession, manifest: OnnxManifest, num_rows: int, length: int) -> Work:
    generator = np.random.default_rng(_SEED)
    num_steps = min(_STEPS, length)
    token_ids = generator.integers(manifest.vocab_size, size=(num_steps, num_rows, 1))

    def work() -> None:
        for step, ids in enumerate(token_ids):
            rows.forward(Chunk(first_row=0, token_ids=ids, lengths=[step + 1] * num_rows))

    return num_steps * num_rows, work


def _reading(rows: RowSession, manifest: OnnxManifest, length: int) -> Work:
    generator = np.random.default_rng(_SEED)
    token_ids = generator.integers(manifest.vocab_size, size=(1, length))

    def work() -> None:
        for start in range(0, length, PIECE_TOKENS):
            end = min(start + PIECE_TOKENS, length)
            rows.forward(Chunk(first_row=0, token_ids=token_ids[:, start:end], lengths=[end]))

    return length, work


def _speed(num_tokens: int, work: Callable[[], None]) -> float:
    """Tokens a second, the median of repeats after one that does not count."""
    seconds = []
    for _ in range(_REPEATS + 1):
        began_at = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began_at)
    return num_tokens / statistics.median(seconds[1:])
