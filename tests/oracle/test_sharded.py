"""A model that two processes compute answers as `model.generate` does, and as one process.

The processes are real ones, over gloo. Each architecture is loaded once: a start takes seconds.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from decoding.contrastive import Contrastive
from decoding.dola import Dola
from decoding.greedy import Greedy
from engine.config import EngineConfig
from engine.engine import Engine
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import run_alone, run_staggered
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.serving import build_engine, bytes_of_cache
from tests.oracle.sharded_serving import NUM_PROCESSES, save_architecture, sharded_engine
from tests.oracle.workload import BEAMS, GREEDY, SAMPLES, build_requests

NUM_CACHED_TOKENS = 240
CONFIG = EngineConfig(max_rows=12, max_step_tokens=24, block_size=4)
INNER = (Dola(), Contrastive(), Dola(dola_layers="high"), Contrastive(top_k=3))


def tight(exam: Exam) -> EngineConfig:
    """Room for so many tokens: each process keeps the keys and values of its own heads."""
    whole = bytes_of_cache(build_model(exam.architecture), NUM_CACHED_TOKENS + CONFIG.block_size)
    return replace(CONFIG, kv_cache_bytes=whole // NUM_PROCESSES)


@pytest.fixture(
    scope="module",
    params=[
        *served("llama", "qwen3-moe"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in served("gpt-neox")),
    ],
    ids=str,
)
def exam(request: pytest.FixtureRequest) -> Exam:
    return set_exam(request.param, [*GREEDY, *BEAMS])


@pytest.fixture(scope="module")
def engine(exam: Exam, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = save_architecture(exam.architecture, tmp_path_factory.mktemp("sharded"))
    with sharded_engine(folder, tight(exam)) as engine:
        yield engine


def test_greedy_and_beams_equal_transformers(exam: Exam, engine: Engine) -> None:
    exam.check(run_staggered(engine, exam.requests))
    assert engine.stats().max_cached_tokens == NUM_CACHED_TOKENS
    assert engine.stats().num_cached_tokens == 0


def test_every_other_strategy_chooses_as_in_one_process(exam: Exam, engine: Engine) -> None:
    requests = build_requests([*SAMPLES, *INNER] * 2, exam.eos_token_ids, seed=5)
    requests = [replace(one, request_id=f"other-{one.request_id}") for one in requests]
    whole = run_staggered(build_engine(exam.architecture, CONFIG), requests)
    run = run_staggered(engine, requests)
    assert not run.failed
    for one in requests:
        assert run.tokens(one.request_id) == whole.tokens(one.request_id)


def test_samples_in_company_draw_what_they_draw_alone(exam: Exam, engine: Engine) -> None:
    requests = build_requests(SAMPLES, exam.eos_token_ids, seed=6)
    crowd = run_staggered(engine, requests)
    for one in requests:
        assert crowd.tokens(one.request_id) == run_alone(engine, one).tokens(one.request_id)


def test_preempted_samples_draw_what_they_draw_in_one_roomy_process(
    exam: Exam, engine: Engine
) -> None:
    requests = build_requests(SAMPLES * 4, exam.eos_token_ids, seed=7, max_new_tokens=30)
    num_before = engine.stats().num_preemptions
    crowd = run_staggered(engine, requests, arriving_together=10)
    assert engine.stats().num_preemptions > num_before
    whole = run_staggered(build_engine(exam.architecture, CONFIG), requests)
    for one in requests:
        assert crowd.tokens(one.request_id) == whole.tokens(one.request_id)


def test_a_prefix_that_is_cached_changes_no_token(exam: Exam, engine: Engine) -> None:
    (request,) = build_requests([Greedy()], exam.eos_token_ids, max_new_tokens=8)
    request = replace(request, prompt_ids=tuple(range(10, 31)))
    first = run_alone(engine, request)
    again = run_alone(engine, replace(request, request_id="again"))
    assert again.finished["again"].timings.num_cached_tokens == 20
    assert again.tokens("again") == first.tokens(request.request_id)


def test_several_processes_can_what_one_can(exam: Exam, engine: Engine) -> None:
    whole = build_engine(exam.architecture, CONFIG)
    assert engine.limits.vocab_size == whole.limits.vocab_size
    assert engine.limits.depth == whole.limits.depth
    assert engine.limits.has_hidden_states
