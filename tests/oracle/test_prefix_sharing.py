"""Prompts that begin alike share their keys and values, and nobody's answer shows it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from engine.config import EngineConfig
from engine.messages import GenerationRequest
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import EngineRun, run_staggered
from tests.oracle.exam import Exam, served, set_exam_of
from tests.oracle.serving import build_engine, bytes_of_cache
from tests.oracle.workload import build_requests, random_ids

BLOCK_SIZE = 4
CONFIG = EngineConfig(max_rows=12, max_step_tokens=24, block_size=BLOCK_SIZE)
NUM_TIGHT_TOKENS = 280  # the cache of the tight engine: little more than its largest request
NUM_NEW_TOKENS = 26
NUM_SHARED = 22  # tokens: five blocks and a half
STRATEGIES: Sequence[Strategy] = [Greedy(), Beam(num_beams=3), Greedy(), Beam(num_beams=2)] * 4


@pytest.fixture(scope="module", params=served("llama", "gemma-3", "opt", "deepseek-3"), ids=str)
def exam(request: pytest.FixtureRequest) -> Exam:
    """Every third prompt is the shared beginning itself, the others go on from it."""
    beginning = random_ids(NUM_SHARED, torch.Generator().manual_seed(31))
    unshared = build_requests(
        STRATEGIES, frozenset({50, 60}), seed=7, max_new_tokens=NUM_NEW_TOKENS
    )
    requests = [
        replace(one, prompt_ids=beginning + one.prompt_ids * (at % 3 > 0))
        for at, one in enumerate(unshared)
    ]
    return set_exam_of(request.param, requests)


@pytest.mark.parametrize("steps_between", [0, 1, 3, 40])
def test_answers_equal_transformers_however_much_is_shared(exam: Exam, steps_between: int) -> None:
    engine = build_engine(exam.architecture, CONFIG)
    exam.check(
        run_staggered(engine, exam.requests, arriving_together=3, steps_between=steps_between)
    )
    stats = engine.stats()
    assert stats.num_prompt_tokens_from_cache >= 5 * BLOCK_SIZE
    assert stats.num_cached_tokens == 0


def test_a_prompt_asked_again_computes_only_its_last_block(exam: Exam) -> None:
    engine = build_engine(exam.architecture, CONFIG)
    run = EngineRun(engine)
    first = max(exam.requests, key=lambda request: len(request.prompt_ids))
    again = replace(first, request_id="again")
    for request in (first, again):
        run.submit(request)
        run.finish()
    num_cached = run.finished["again"].timings.num_cached_tokens
    assert num_cached == (len(first.prompt_ids) - 1) // BLOCK_SIZE * BLOCK_SIZE
    assert run.tokens("again") == run.tokens(first.request_id)
    assert run.tokens("again") == exam.references[first.request_id].token_ids


def test_prompts_under_different_salts_share_nothing(exam: Exam) -> None:
    engine = build_engine(exam.architecture, CONFIG)
    run = EngineRun(engine)
    for at, request in enumerate(exam.requests):
        run.submit(replace(request, cache_salt=f"tenant-{at}"))
        run.finish()
    exam.check(run)
    assert engine.stats().num_prompt_tokens_from_cache == 0


def test_shared_blocks_survive_preemption_and_eviction(exam: Exam) -> None:
    num_bytes = bytes_of_cache(build_model(exam.architecture), NUM_TIGHT_TOKENS)
    engine = build_engine(exam.architecture, replace(CONFIG, kv_cache_bytes=num_bytes))
    requests: list[GenerationRequest] = [
        replace(one, request_id=f"{turn}-{one.request_id}")
        for turn in range(3)
        for one in exam.requests
    ]
    run = run_staggered(engine, requests, arriving_together=5, steps_between=4)
    assert not run.failed
    for request in requests:
        reference = exam.references[request.request_id.split("-", maxsplit=1)[1]]
        assert run.tokens(request.request_id) == reference.token_ids
    assert engine.stats().num_preemptions > 0
    assert engine.stats().num_cached_tokens == 0
