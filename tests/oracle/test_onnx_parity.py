"""Exported in float32, every model that ONNX Runtime can serve answers as transformers does.

On ONNX Runtime's own operators and on ours: greedy and beam token for token, beams score for score.
Which models are exported, and which of them have a native form, is stated here, so that a change
in either shows.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.native_library import build_native_library
from optimize.errors import OnnxUnsupported
from optimize.onnx_manifest import NATIVE_GRAPH_FILE
from tests.oracle.architectures import SERVED, Architecture
from tests.oracle.engine_run import run_staggered
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.onnx_serving import build_native_engine, build_onnx_engine, export_architecture
from tests.oracle.workload import BEAMS, GREEDY, SAMPLES, build_requests

NATIVE = ("llama", "llama-3-rope", "mistral-window", "qwen3", "gemma")
EXPORTED = (*NATIVE, "gemma-2")  # its scores are capped, which our attention does not do
ROOMY = EngineConfig(num_threads=1, kv_cache_bytes=2**26)
SHORT_STEPS = EngineConfig(
    max_rows=8, max_step_tokens=11, num_threads=1, kv_cache_bytes=2**26
)  # for our operators only: the others want whole pieces of a prompt


@dataclass(frozen=True, slots=True)
class ExportedExam:
    """An exam and the export that sits it."""

    exam: Exam
    folder: Path


@pytest.fixture(scope="module", params=served(*EXPORTED), ids=str)
def sitting(request: pytest.FixtureRequest, tmp_path_factory) -> ExportedExam:
    folder = tmp_path_factory.mktemp("export")
    export_architecture(request.param, tmp_path_factory.mktemp("model"), folder)
    return ExportedExam(set_exam(request.param, [*GREEDY, *BEAMS]), folder)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build_native_library(tmp_path_factory.mktemp("operators"))


def test_the_runtimes_own_operators_answer_as_transformers(sitting: ExportedExam) -> None:
    engine = build_onnx_engine(sitting.folder, ROOMY)
    sitting.exam.check(run_staggered(engine, sitting.exam.requests))
    assert engine.stats().num_cached_tokens == 0


def test_a_model_has_a_native_form_if_it_is_listed(sitting: ExportedExam) -> None:
    has_native_form = (sitting.folder / NATIVE_GRAPH_FILE).is_file()
    assert has_native_form == (sitting.exam.architecture.name in NATIVE)


@pytest.mark.parametrize("config", [ROOMY, SHORT_STEPS], ids=["roomy", "short steps"])
def test_our_operators_answer_as_transformers(
    sitting: ExportedExam, library: Path, config: EngineConfig
) -> None:
    if sitting.exam.architecture.name not in NATIVE:
        pytest.skip("has no native form")
    samples = build_requests(SAMPLES, sitting.exam.eos_token_ids, seed=1)
    samples = [replace(one, request_id=f"neighbour-{one.request_id}") for one in samples]
    samples = [one for one in samples if one.strategy.num_rows <= config.max_rows]
    engine = build_native_engine(sitting.folder, library, config)
    sitting.exam.check(run_staggered(engine, [*samples[:4], *sitting.exam.requests, *samples[4:]]))
    assert engine.stats().num_cached_tokens == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture", [one for one in SERVED if one.name not in EXPORTED], ids=str
)
def test_other_models_are_refused_before_they_are_served(
    architecture: Architecture, tmp_path: Path
) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(OnnxUnsupported, match=r"[Ss]erve .* torch"):
        export_architecture(architecture, tmp_path / "model", tmp_path / "export")
