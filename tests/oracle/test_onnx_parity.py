"""Exported in float32, every model that ONNX Runtime can serve answers as transformers does.

On ONNX Runtime's own operators and on ours: greedy and beam token for token, beams score for score,
with requests coming in while others run, prompts of several pieces, and prompts that begin alike.
Which models are exported, and which of them have a native form, is stated in `onnx_architectures`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.dola import Dola
from decoding.greedy import Greedy
from engine.config import EngineConfig
from engine.native_library import build_native_library
from engine.row_runner import PIECE_TOKENS
from optimize.errors import OnnxUnsupported
from optimize.onnx_manifest import NATIVE_GRAPH_FILE
from tests.oracle.architectures import Architecture, build_model
from tests.oracle.dola_reference import dola_tokens
from tests.oracle.engine_run import run_staggered
from tests.oracle.exam import Exam, set_exam, set_exam_of
from tests.oracle.onnx_architectures import COMMON, CONTEXT_LENGTH, EXPORTED, NATIVE, REFUSED
from tests.oracle.onnx_serving import build_native_engine, build_onnx_engine, export_architecture
from tests.oracle.onnx_smoothing import smoothed_logits
from tests.oracle.workload import BEAMS, GREEDY, PLAIN, SAMPLES, build_requests, random_ids

ROOMY = EngineConfig(num_threads=1, kv_cache_bytes=2**26)
SHORT_STEPS = EngineConfig(
    max_rows=8, max_step_tokens=11, num_threads=1, kv_cache_bytes=2**26
)  # for our operators only: the others want whole pieces of a prompt
FEW_ROWS = EngineConfig(
    max_rows=6, max_step_tokens=6 + PIECE_TOKENS, num_threads=1, kv_cache_bytes=2**26
)
NUM_SHARED = 2 * PIECE_TOKENS + 5  # tokens: two pieces and a little
NUM_NEW_TOKENS = 26
DOLA: Sequence[Strategy] = [
    Dola(dola_layers=layers, relative_top=0.02) for layers in ((0,), (1,), (2,), (0, 1, 2), "high")
]
LONG: Sequence[Strategy] = [Greedy(), Beam(num_beams=3), Greedy(), Beam(num_beams=2)] * 3


@dataclass(frozen=True, slots=True)
class ExportedExam:
    """An exam and the export that sits it."""

    exam: Exam
    folder: Path

    @property
    def architecture(self) -> Architecture:
        """The model's architecture."""
        return self.exam.architecture


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, id=str(one), marks=[] if one.name in COMMON else pytest.mark.slow)
        for one in EXPORTED
    ],
)
def sitting(request: pytest.FixtureRequest, tmp_path_factory) -> ExportedExam:
    folder = tmp_path_factory.mktemp("export")
    export_architecture(request.param, tmp_path_factory.mktemp("model"), folder)
    return ExportedExam(set_exam(request.param, [*GREEDY, *BEAMS]), folder)


@pytest.fixture(scope="module")
def long_exam(sitting: ExportedExam) -> Exam:
    """Prompts of three pieces that begin alike; every third is the beginning itself."""
    beginning = random_ids(NUM_SHARED, torch.Generator().manual_seed(31))
    unshared = build_requests(LONG, frozenset({50, 60}), seed=7, max_new_tokens=NUM_NEW_TOKENS)
    requests = [
        replace(one, prompt_ids=beginning + (beginning[:30] + one.prompt_ids) * (at % 3 > 0))
        for at, one in enumerate(unshared)
    ]
    assert max(len(one.prompt_ids) for one in requests) + NUM_NEW_TOKENS < CONTEXT_LENGTH
    return set_exam_of(sitting.architecture, requests)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build_native_library(tmp_path_factory.mktemp("operators"))


def test_the_runtimes_own_operators_answer_as_transformers(sitting: ExportedExam) -> None:
    engine = build_onnx_engine(sitting.folder, ROOMY)
    sitting.exam.check(run_staggered(engine, sitting.exam.requests))
    assert engine.stats().num_cached_tokens == 0


@pytest.mark.parametrize("config", [ROOMY, FEW_ROWS], ids=["roomy", "few rows"])
def test_long_prompts_that_begin_alike_are_answered_as_by_transformers(
    sitting: ExportedExam, long_exam: Exam, config: EngineConfig
) -> None:
    engine = build_onnx_engine(sitting.folder, config)
    long_exam.check(run_staggered(engine, long_exam.requests, arriving_together=3))
    assert engine.stats().num_prompt_tokens_from_cache >= 2 * PIECE_TOKENS
    assert engine.stats().num_cached_tokens == 0


def test_a_model_has_a_native_form_if_it_is_listed(sitting: ExportedExam) -> None:
    has_native_form = (sitting.folder / NATIVE_GRAPH_FILE).is_file()
    assert has_native_form == (sitting.architecture in NATIVE)


@pytest.mark.parametrize("config", [ROOMY, SHORT_STEPS], ids=["roomy", "short steps"])
def test_our_operators_answer_as_transformers(
    sitting: ExportedExam, long_exam: Exam, library: Path, config: EngineConfig
) -> None:
    if sitting.architecture not in NATIVE:
        pytest.skip("has no native form")
    samples = build_requests(SAMPLES, sitting.exam.eos_token_ids, seed=1)
    samples = [replace(one, request_id=f"neighbour-{one.request_id}") for one in samples]
    samples = [one for one in samples if one.strategy.num_rows <= config.max_rows]
    engine = build_native_engine(sitting.folder, library, config)
    sitting.exam.check(run_staggered(engine, [*samples[:4], *sitting.exam.requests, *samples[4:]]))
    long_exam.check(run_staggered(engine, long_exam.requests, arriving_together=3))
    assert engine.stats().num_cached_tokens == 0


def test_our_operators_tell_what_is_inside(sitting: ExportedExam, library: Path) -> None:
    if sitting.architecture not in NATIVE:
        pytest.skip("has no native form")
    model = build_model(sitting.architecture)
    requests = [
        replace(one, adjustments=PLAIN)
        for one in build_requests(DOLA, sitting.exam.eos_token_ids, seed=5, max_new_tokens=16)
    ]
    for config in (ROOMY, SHORT_STEPS):
        engine = build_native_engine(sitting.folder, library, config)
        run = run_staggered(engine, requests)
        for request in requests:
            assert run.tokens(request.request_id) == (dola_tokens(model, request),)


def test_smoothing_leaves_float_results_as_they_were(sitting: ExportedExam, tmp_path: Path) -> None:
    before, after = smoothed_logits(sitting.folder, tmp_path)
    assert abs(before - after).max() < 1e-3 * before.std()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "reason"), REFUSED, ids=[architecture.name for architecture, _ in REFUSED]
)
def test_other_models_are_refused_before_they_are_served(
    architecture: Architecture, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(OnnxUnsupported, match=rf"{reason}.*[Ss]erve .* torch"):
        export_architecture(architecture, tmp_path / "model", tmp_path / "export")
