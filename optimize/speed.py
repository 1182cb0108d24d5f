"""How fast a model runs, and what it takes. Called by `variant`.

The bare loop without a server: one token a step for one row and for eight, and a prompt in pieces
as they are served. Medians of several repeats; a serving machine with our own operators is faster.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil

from optimize.opening import Setup, open_steps
from optimize.optimization_report import Costs
from optimize.report import Report
from optimize.steps import Steps

BATCH = 8
PROMPT_TOKENS = 512
PIECE_TOKENS = 64
WEIGHT_SUFFIXES = {".onnx", ".data", ".safetensors", ".pt", ".pt2"}
_STEPS = 24
_REPEATS = 3
_SEED = 0

Work = tuple[int, Callable[[], None]]  # tokens, and what computes them


def measure_costs(folder: Path, setup: Setup, *, report: Report) -> Costs:
    """Open the model in `folder` and time it."""
    steps = open_steps(folder, setup)
    speeds = []
    works = (_decoding(steps, 1), _decoding(steps, BATCH), _reading(steps))
    for at, (num_tokens, work) in enumerate(works):
        speeds.append(_speed(num_tokens, work))
        report((at + 1) / len(works))
    one_stream, batch_8, prefill = speeds
    return Costs(
        disk_bytes=sum(
            file.stat().st_size for file in folder.iterdir() if file.suffix in WEIGHT_SUFFIXES
        ),
        memory_bytes=_memory_bytes(folder, setup),
        one_stream=one_stream,
        batch_8=batch_8,
        prefill=prefill,
    )


def measure_growth(folder: Path, setup: Setup) -> int:
    """By how many bytes memory grows when this process opens the model and computes a step.

    That of the accelerator where it runs on one. The libraries are counted, as they are when it
    is served.
    """
    before = psutil.Process().memory_info().rss
    _, work = _decoding(open_steps(folder, setup), BATCH)
    work()
    if setup.device != "cpu":
        import torch  # noqa: PLC0415  takes a second, and ONNX Runtime does without

        return int(torch.cuda.max_memory_allocated(setup.device))
    return int(psutil.Process().memory_info().rss) - before


def _memory_bytes(folder: Path, setup: Setup) -> int:
    """The same in a process of its own: one that has freed memory would not grow by as much."""
    program = (
        "import json, sys; from pathlib import Path; from optimize.opening import Setup; "
        "from optimize.speed import measure_growth; "
        "print(measure_growth(Path(sys.argv[1]), Setup(**json.loads(sys.argv[2]))))"
    )
    command = [sys.executable, "-c", program, str(folder), json.dumps(asdict(setup))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.splitlines()[-1])


def _decoding(steps: Steps, num_rows: int) -> Work:
    generator = np.random.default_rng(_SEED)
    num_steps = min(_STEPS, steps.context_length)
    token_ids = generator.integers(steps.vocab_size, size=(num_steps, num_rows, 1))

    def work() -> None:
        steps.start(num_rows, num_steps)
        for ids in token_ids:
            steps.read(ids)

    return num_steps * num_rows, work


def _reading(steps: Steps) -> Work:
    generator = np.random.default_rng(_SEED)
    length = min(PROMPT_TOKENS, steps.context_length)
    token_ids = generator.integers(steps.vocab_size, size=(1, length))

    def work() -> None:
        steps.start(1, length)
        for start in range(0, length, PIECE_TOKENS):
            steps.read(token_ids[:, start : start + PIECE_TOKENS])

    return length, work


def _speed(num_tokens: int, work: Callable[[], None]) -> float:
    """Tokens a second, the median of repeats after one that does not count."""
    seconds = []
    for _ in range(_REPEATS + 1):
        began_at = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began_at)
    return num_tokens / statistics.median(seconds[1:])
