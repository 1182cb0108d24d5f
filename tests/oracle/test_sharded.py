"""A model that two processes compute answers as `model.generate` does, and as one process.

The processes are real ones, over gloo. Each architecture is loaded once: a start takes seconds.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.contrastive import Contrastive
from decoding.dola import Dola
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import GenerationRequest, RequestFinished
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered
from tests.oracle.every_request import EXTRAS, every_strategy, spell
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.serving import build_engine, bytes_of_cache
from tests.oracle.sharded_serving import NUM_PROCESSES, save_architecture, sharded_engine
from tests.oracle.workload import BEAMS, GREEDY, SAMPLES, build_requests

NUM_CACHED_TOKENS = 240
CONFIG = EngineConfig(max_rows=12, max_step_tokens=24, block_size=4)
INNER = (Dola(dola_layers="high"), Dola(dola_layers="high", do_sample=True), Contrastive(top_k=3))
WITH_EXTRAS = (Greedy(), Sample(num_return_sequences=2), Beam(num_beams=3), Dola())


def tight(exam: Exam) -> EngineConfig:
    """Room for so many tokens: each process keeps the keys and values of its own heads."""
    whole = bytes_of_cache(build_model(exam.architecture), NUM_CACHED_TOKENS + CONFIG.block_size)
    return replace(CONFIG, kv_cache_bytes=whole // NUM_PROCESSES)


@pytest.fixture(
    scope="module",
    params=[
        *served("llama"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in served("qwen3-moe", "gpt-neox")),
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


@pytest.fixture(scope="module")
def whole(exam: Exam) -> Engine:
    """The same model in this process, with room for all."""
    return build_engine(exam.architecture, CONFIG)


def requests_for(
    name: str, exam: Exam, strategies: list[Strategy], *, max_new_tokens: int | None = None
) -> list[GenerationRequest]:
    """Requests whose ids begin with a test's name, as all tests share the engine."""
    requests = build_requests(
        strategies, exam.eos_token_ids, seed=len(name), max_new_tokens=max_new_tokens
    )
    return [
        replace(one, request_id=f"{name}-{one.request_id}", phrases_of=spell) for one in requests
    ]


def assert_same(one: RequestFinished, other: RequestFinished) -> None:
    """All that was asked for is the same, numbers up to rounding."""
    assert [each.token_ids for each in one.sequences] == [
        each.token_ids for each in other.sequences
    ]
    for ours, theirs in zip(one.sequences, other.sequences, strict=True):
        assert ours.finish_reason == theirs.finish_reason
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)
    assert numbers(one.alternatives) == pytest.approx(numbers(other.alternatives), abs=1e-3)
    assert numbers(one.prompt_scores) == pytest.approx(numbers(other.prompt_scores), abs=1e-3)
    assert seen(one) == seen(other)


def numbers(told: object) -> list[float]:
    """Token ids and log-probabilities in order, however deep they lie."""
    if isinstance(told, int | float):
        return [told]
    parts = told if isinstance(told, tuple) else (told.token_id, told.logprob, told.alternatives)
    return [number for part in parts for number in numbers(part)]


def seen(answer: RequestFinished) -> list[tuple[object, ...]]:
    """What a trace says of each text and of what might have followed it, without numbers."""
    steps = () if answer.trace is None else answer.trace.steps
    return [
        (node.parent, node.token_id, [(each.token_id, each.outcome) for each in node.candidates])
        for step in steps
        for node in step
    ]


def test_greedy_and_beams_equal_transformers(exam: Exam, engine: Engine) -> None:
    exam.check(run_staggered(engine, exam.requests))
    assert engine.stats().max_cached_tokens == NUM_CACHED_TOKENS
    assert engine.stats().num_cached_tokens == 0


def test_every_strategy_chooses_as_in_one_process_even_when_preempted(
    exam: Exam, engine: Engine, whole: Engine
) -> None:
    strategies = [*every_strategy(), *SAMPLES, *INNER]
    requests = requests_for("every", exam, strategies, max_new_tokens=24)
    num_before = engine.stats().num_preemptions
    run = run_staggered(engine, requests, arriving_together=10)
    assert not run.failed
    assert engine.stats().num_preemptions > num_before
    expected = run_staggered(whole, requests)
    for one in requests:
        assert_same(run.finished[one.request_id], expected.finished[one.request_id])


@pytest.mark.parametrize("extra", EXTRAS)
def test_all_that_may_be_asked_for_beside_a_strategy_is_as_in_one_process(
    exam: Exam, engine: Engine, whole: Engine, extra: str
) -> None:
    requests = [
        EXTRAS[extra](one)
        for one in requests_for(extra, exam, list(WITH_EXTRAS), max_new_tokens=10)
    ]
    num_guesses = engine.stats().num_draft_tokens
    run = run_staggered(engine, requests)
    assert not run.failed
    expected = run_staggered(whole, requests)
    for one in requests:
        assert_same(run.finished[one.request_id], expected.finished[one.request_id])
    has_guessed = engine.stats().num_draft_tokens > num_guesses
    assert has_guessed == (extra == "prompt lookup")


def test_samples_in_company_draw_what_they_draw_alone(exam: Exam, engine: Engine) -> None:
    requests = requests_for("company", exam, list(SAMPLES))
    crowd = run_staggered(engine, requests)
    for one in requests:
        assert crowd.tokens(one.request_id) == run_alone(engine, one).tokens(one.request_id)


def test_a_seed_alone_decides_what_is_drawn(exam: Exam, engine: Engine) -> None:
    (request,) = requests_for("seed", exam, [Sample()], max_new_tokens=20)
    first = run_alone(engine, request).tokens(request.request_id)
    assert run_alone(engine, request).tokens(request.request_id) == first
    other = replace(request, seed=request.seed + 1)
    assert run_alone(engine, other).tokens(request.request_id) != first


def test_what_is_cancelled_in_the_middle_leaves_the_others_as_they_are(
    exam: Exam, engine: Engine, whole: Engine
) -> None:
    kept, dropped = requests_for("cancel", exam, [Beam(), Sample()], max_new_tokens=20)
    run = EngineRun(engine)
    run.submit(kept, dropped)
    run.step(4)
    engine.cancel(dropped.request_id)
    run.finish()
    assert dropped.request_id not in run.finished
    expected = run_alone(whole, kept)
    assert_same(run.finished[kept.request_id], expected.finished[kept.request_id])
    assert engine.stats().num_cached_tokens == 0


def test_a_prefix_that_is_cached_changes_no_token(exam: Exam, engine: Engine) -> None:
    (request,) = requests_for("prefix", exam, [Greedy()], max_new_tokens=8)
    request = replace(request, prompt_ids=tuple(range(10, 31)))
    first = run_alone(engine, request)
    again = run_alone(engine, replace(request, request_id="again"))
    assert again.finished["again"].timings.num_cached_tokens == 20
    assert again.tokens("again") == first.tokens(request.request_id)


def test_several_processes_can_what_one_can(engine: Engine, whole: Engine) -> None:
    assert engine.limits.vocab_size == whole.limits.vocab_size
    assert engine.limits.depth == whole.limits.depth
    assert engine.limits.has_hidden_states
