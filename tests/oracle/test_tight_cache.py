"""A cache too small for its batch costs time, never tokens.

Groups are preempted and computed again later; the answers still equal `model.generate`, sampled
requests draw what they draw alone, and every block comes back.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import RequestTooLarge
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.serving import build_engine, bytes_of_cache
from tests.oracle.workload import SAMPLES, build_requests

TIGHT = EngineConfig(max_rows=12, max_step_tokens=24, block_size=4)
LONG_BEAM = Beam(num_beams=2, length_penalty=2.0, early_stopping="never", num_return_sequences=2)
STRATEGIES: Sequence[Strategy] = [Greedy(), LONG_BEAM, Greedy(), Beam(num_beams=2), Greedy()] * 4
NUM_NEW_TOKENS = 30


@pytest.fixture(
    scope="module", params=served("llama", "mistral-window", "gemma-2", "gpt-2"), ids=str
)
def exam(request: pytest.FixtureRequest) -> Exam:
    return set_exam(request.param, STRATEGIES, max_new_tokens=NUM_NEW_TOKENS)


def build_tight_engine(exam: Exam, num_tokens: int) -> Engine:
    num_bytes = bytes_of_cache(build_model(exam.architecture), num_tokens + TIGHT.block_size)
    return build_engine(exam.architecture, replace(TIGHT, kv_cache_bytes=num_bytes))


@pytest.mark.parametrize("num_tokens", [144, 184])
def test_preempted_requests_answer_as_transformers_does(exam: Exam, num_tokens: int) -> None:
    engine = build_tight_engine(exam, num_tokens)
    run = run_staggered(engine, exam.requests, arriving_together=5, steps_between=3)
    exam.check(run)
    stats = engine.stats()
    assert stats.max_cached_tokens == num_tokens
    assert stats.num_preemptions > 0
    assert stats.num_cached_tokens == 0
    assert sum(one.timings.num_preemptions for one in run.finished.values()) == (
        stats.num_preemptions
    )


def test_preempted_samples_draw_what_they_draw_alone(exam: Exam) -> None:
    requests = build_requests(SAMPLES * 5, exam.eos_token_ids, max_new_tokens=NUM_NEW_TOKENS)
    engine = build_tight_engine(exam, 216)
    crowd = run_staggered(engine, requests, arriving_together=10)
    assert engine.stats().num_preemptions > 0
    roomy = build_engine(exam.architecture, EngineConfig())
    for request in requests:
        alone = run_alone(roomy, request)
        assert crowd.tokens(request.request_id) == alone.tokens(request.request_id)


def test_a_request_that_can_never_fit_is_refused_with_the_numbers(exam: Exam) -> None:
    run = EngineRun(build_tight_engine(exam, 100))
    (request,) = build_requests([Beam(num_beams=4)], frozenset(), max_new_tokens=30)
    with pytest.raises(RequestTooLarge, match="100"):
        run.submit(request)
    assert not run.engine.has_work


def test_the_largest_request_that_fits_runs_alone_to_its_end(exam: Exam) -> None:
    (request,) = build_requests([Beam(num_beams=4)], frozenset(), max_new_tokens=31)
    run = run_alone(build_tight_engine(exam, 4 * 32), request)
    assert len(run.tokens(request.request_id)[0]) == 31
