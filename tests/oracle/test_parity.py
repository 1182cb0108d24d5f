"""Greedy and beam answers of the engine equal `model.generate`, for every architecture it serves.

Every architecture gets the same requests, submitted a few at a time into one running batch, under
bounds that force different schedules: what is computed together, and in how many chunks, must not
show in the answer.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from engine.config import EngineConfig
from tests.oracle.architectures import SERVED
from tests.oracle.engine_run import run_staggered
from tests.oracle.exam import Exam, set_exam
from tests.oracle.serving import build_engine
from tests.oracle.workload import BEAMS, GREEDY, SAMPLES, build_requests

SCHEDULES: Mapping[str, EngineConfig] = {
    "roomy": EngineConfig(),
    "chunked": EngineConfig(max_rows=8, max_step_tokens=8, block_size=4),
}


@pytest.fixture(scope="module", params=SERVED, ids=str)
def exam(request: pytest.FixtureRequest) -> Exam:
    return set_exam(request.param, [*GREEDY, *BEAMS])


def test_references_end_both_by_end_token_and_by_length(exam: Exam) -> None:
    answers = [ids for one in exam.references.values() for ids in one.token_ids]
    ended = [ids[-1] in exam.eos_token_ids for ids in answers]
    assert any(ended)
    assert not all(ended)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_answers_equal_transformers_whatever_the_schedule(exam: Exam, schedule: str) -> None:
    engine = build_engine(exam.architecture, SCHEDULES[schedule])
    exam.check(run_staggered(engine, exam.requests))
    assert engine.stats().num_cached_tokens == 0


def test_answers_equal_transformers_among_sampled_neighbours(exam: Exam) -> None:
    samples = build_requests(SAMPLES * 3, exam.eos_token_ids, seed=1)
    samples = [replace(one, request_id=f"neighbour-{one.request_id}") for one in samples]
    engine = build_engine(exam.architecture, EngineConfig(block_size=8))
    run = run_staggered(engine, [*samples[:8], *exam.requests, *samples[8:]])
    exam.check(run)
    assert len(run.finished) == len(samples) + len(exam.requests)
