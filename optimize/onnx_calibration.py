"""How large the channels of a decoder's activations are on a text, beside their row's largest.

Called by `onnx_export` for schemes that quantise activations. Runs the float graph itself, with
reductions added to it, so it works for whatever the graph was built from. Also finds the text: the
one that ships with this package, or a file of the user's.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from onnx import helper

from optimize.errors import InvalidCalibration
from optimize.onnx_graph import OnnxGraph
from optimize.onnx_manifest import OnnxManifest
from optimize.onnx_session import Chunk, Floats, RowSession, open_session
from optimize.onnx_structure import Site
from optimize.report import Report

CHUNK_TOKENS = 256  # of one pass; each is a text of its own
MAX_TOKENS = 4096  # more changes little and costs seconds
_MIN_TOKENS = 64
_GRAPH_FILE = "calibration.onnx"
_TINY = 1e-20  # keeps a row of zeros from dividing by zero


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """A text to run a model on, and its identity."""

    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_calibration(file: Path | None) -> CalibrationText:
    """The text in `file`; without one, the text of this package.

    Raises:
        InvalidCalibration: the file cannot be read as UTF-8 text.
    """
    if file is None:
        return CalibrationText(_packaged("calibration.txt"))
    try:
        return CalibrationText(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCalibration(
            f"calibration text {file} cannot be read ({error}). Give a UTF-8 text file."
        ) from error


def read_evaluation_text() -> str:
    """The text of this package that quality is measured on; no calibration has seen it."""
    return _packaged("evaluation.txt")


def chunks_of(token_ids: Sequence[int]) -> list[Sequence[int]]:
    """The tokens of a text in passes of equal length, as many as are used.

    Raises:
        InvalidCalibration: there are too few.
    """
    if len(token_ids) < _MIN_TOKENS:
        raise InvalidCalibration(
            f"the calibration text has {len(token_ids)} tokens and needs {_MIN_TOKENS} at least. "
            "Give a longer text, a thousand words or more of what the model will be used for."
        )
    used = token_ids[:MAX_TOKENS]
    return [used[start : start + CHUNK_TOKENS] for start in range(0, len(used), CHUNK_TOKENS)]


def measure_channels(
    folder: Path,
    manifest: OnnxManifest,
    sites: Sequence[Site],
    chunks: Sequence[Sequence[int]],
    report: Report,
) -> Mapping[str, Floats]:
    """The size of each channel of each site's value.

    It is the geometric mean of two figures over all tokens: the channel's greatest magnitude, which
    is large where a few tokens carry outliers that the model depends on, and the root of its mean
    squared share in its row's greatest magnitude, which sets the row's quantisation step.

    Args:
        folder: holds the float graph with logits for all positions; a graph is written beside it.
        manifest: the shape of that graph.
        sites: the values to look at.
        chunks: token ids, each chunk a text of its own.
        report: told the fraction of chunks done.
    """
    graph = OnnxGraph.load(folder)
    outputs = _add_statistics(graph, [site.value for site in sites])
    graph.save_beside(_GRAPH_FILE)
    session = open_session(folder, graph_file=_GRAPH_FILE)
    rows = RowSession(session, manifest, rows=1, max_length=CHUNK_TOKENS)
    sums = greatest = [np.zeros(1, np.float32)] * len(sites)
    for number, chunk in enumerate(chunks, start=1):
        ids = np.array([chunk], np.int64)
        found = rows.forward(Chunk(first_row=0, token_ids=ids, lengths=[len(chunk)]), outputs)
        sums = list(map(np.add, sums, found[: len(sites)]))
        greatest = list(map(np.maximum, greatest, found[len(sites) :]))
        report(number / len(chunks))
    num_tokens = sum(map(len, chunks))
    return {
        site.value: np.sqrt(largest * np.sqrt(total / num_tokens))
        for site, total, largest in zip(sites, sums, greatest, strict=True)
    }


def _add_statistics(graph: OnnxGraph, values: Sequence[str]) -> list[str]:
    """Add outputs for values [rows, positions, channels]: sums of squared shares, then maxima."""
    channels = graph.set_weight("calibration/channels", np.array([-1], np.int64))
    tokens = graph.set_weight("calibration/tokens", np.array([0, 1], np.int64))
    tiny = graph.set_weight("calibration/tiny", np.array(_TINY, np.float32))
    for value in values:
        name = f"{value}/calibration"
        graph.nodes += [
            helper.make_node("Abs", [value], [f"{name}/abs"]),
            helper.make_node("ReduceMax", [f"{name}/abs", channels], [f"{name}/row"], keepdims=1),
            helper.make_node("Max", [f"{name}/row", tiny], [f"{name}/step"]),
            helper.make_node("Div", [value, f"{name}/step"], [f"{name}/share"]),
            helper.make_node("ReduceSumSquare", [f"{name}/share", tokens], [f"{name}/sum"],
                             keepdims=0),
            helper.make_node("ReduceMax", [f"{name}/abs", tokens], [f"{name}/max"], keepdims=0),
        ]  # fmt: skip
    outputs = [f"{value}/calibration/{kind}" for kind in ("sum", "max") for value in values]
    for output in outputs:
        graph.add_output(output)
    return outputs


def _packaged(name: str) -> str:
    return resources.files("optimize").joinpath(name).read_text(encoding="utf-8")
