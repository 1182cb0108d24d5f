"""Runs the model builder of onnxruntime-genai on a transformers folder. Called by `onnx_export`.

In a process of its own: the builder puts modules with everyday names (`builders`, `loaders`) on the
import path, prints as it goes and keeps a second copy of the weights. What it writes is a float32
decoder graph with GroupQueryAttention; its other files (configuration, tokenizer) are not used.
"""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from optimize.errors import OnnxUnsupported
from optimize.report import Report

_LAYER_LINE = re.compile(r"Reading (?:decoder )?layer (\d+)")
_MAX_KEPT_LINES = 40  # of the output, for the reason of a failure


def build_float_graph(
    folder: Path, target: Path, *, num_layers: int, trust_remote_code: bool, report: Report
) -> None:
    """Write `model.onnx` and its data for the model in `folder` into the folder `target`.

    Raises:
        OnnxUnsupported: the builder does not know the architecture, or fails on this model.
    """
    command = [sys.executable, "-u", "-W", "ignore", "-m", "onnxruntime_genai.models.builder",
               "--model_name", folder.name, "--input", str(folder), "--output", str(target),
               "--precision", "fp32", "--execution_provider", "cpu",
               "--cache_dir", str(target / "cache"), "--extra_options", "hf_token=false",
               f"hf_remote={str(trust_remote_code).lower()}",
               # Rows hold whole sequences: nothing must be evicted from them.
               "windowed_kv_cache=false"]  # fmt: skip
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            last_lines = _follow(process.stdout or (), num_layers, report)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise OnnxUnsupported(
            f"{folder.name} cannot be exported to ONNX ({_reason(last_lines)}). "
            "Serve it with torch."
        )


def _follow(output: IO[str] | Iterable[str], num_layers: int, report: Report) -> list[str]:
    """Read the builder's output to its end, reporting the layers; its last lines."""
    last_lines: list[str] = []
    for line in output:
        layer = _LAYER_LINE.search(line)
        if layer is not None:
            report(min((int(layer.group(1)) + 1) / max(num_layers, 1), 1.0))
        last_lines = [*last_lines, line][-_MAX_KEPT_LINES:]
    return last_lines


def _reason(last_lines: list[str]) -> str:
    """The exception in the builder's output, in one line."""
    errors = [line for line in last_lines if re.match(r"\w*(Error|Exception)\b", line)]
    lines = errors or [line for line in last_lines if line.strip()] or ["no reason given"]
    return " ".join(lines[-1].split()).removesuffix(".")
