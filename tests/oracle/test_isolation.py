"""One request's failure is its own: its neighbours' answers still equal `model.generate`."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import DecodingFailed
from engine.messages import GenerationRequest
from engine.torch_runner import TorchRunner
from tests.oracle.architectures import CONTEXT_LENGTH, build_model
from tests.oracle.engine_run import EngineRun, run_staggered
from tests.oracle.exam import Exam, served, set_exam
from tests.oracle.serving import build_engine, bytes_of_cache
from tests.oracle.workload import BEAMS, GREEDY, build_requests

POISON = 1  # a special token, so only prompts made for it hold it: its embedding becomes NaN
CONFIG = EngineConfig(max_rows=8, max_step_tokens=16, block_size=4)
NUM_CACHED_TOKENS = 256  # few, so that freed blocks are used again soon
ILL_FATED: Sequence[Strategy] = (Greedy(), Beam(num_beams=3), Sample(num_return_sequences=2))


@pytest.fixture(scope="module", params=served("llama", "gemma-2"), ids=str)
def exam(request: pytest.FixtureRequest) -> Exam:
    return set_exam(request.param, [*GREEDY, *BEAMS[:9]])


@pytest.fixture
def poisoned_engine(exam: Exam) -> Engine:
    module = build_model(exam.architecture)
    config = replace(CONFIG, kv_cache_bytes=bytes_of_cache(module, NUM_CACHED_TOKENS))
    runner = TorchRunner.load(module, config, context_length=CONTEXT_LENGTH)
    with torch.no_grad():
        module.get_input_embeddings().weight[POISON] = torch.nan
    return Engine(runner, config)


def run_among(engine: Engine, exam: Exam, ill_fated: Sequence[GenerationRequest]) -> EngineRun:
    """Run the exam with a request that fails between every few."""
    requests = list(exam.requests)
    for at, request in enumerate(ill_fated):
        requests.insert(4 * at + 2, request)
    return run_staggered(engine, requests)


def check_failures(run: EngineRun, ill_fated: Sequence[GenerationRequest], reason: str) -> None:
    """The ill-fated failed for that reason, and are out of the way of the exam's own check."""
    assert run.failed.keys() == {request.request_id for request in ill_fated}
    for failure in run.failed.values():
        assert isinstance(failure.error, DecodingFailed)
        assert reason in str(failure.error)
    run.failed.clear()


def test_a_prompt_whose_logits_are_not_finite_fails_alone(
    poisoned_engine: Engine, exam: Exam
) -> None:
    ill_fated = [
        replace(request, request_id=f"poisoned-{at}", prompt_ids=(*[9] * (5 * at), POISON, 7))
        for at, request in enumerate(build_requests(ILL_FATED, frozenset()))
    ]
    run = run_among(poisoned_engine, exam, ill_fated)
    check_failures(run, ill_fated, "not finite")
    exam.check(run)
    assert poisoned_engine.stats().num_cached_tokens == 0


@pytest.mark.parametrize("length", [1, 5])
def test_a_stop_check_that_raises_fails_its_own_request(exam: Exam, length: int) -> None:
    def stop(generated_ids: Sequence[int]) -> bool:
        if len(generated_ids) == length:
            raise LookupError("a bug in a stop check")
        return False

    ill_fated = [
        replace(request, request_id=f"raising-{at}", stop=stop)
        for at, request in enumerate(build_requests(ILL_FATED, frozenset(), max_new_tokens=12))
    ]
    engine = build_engine(exam.architecture, CONFIG)
    run = run_among(engine, exam, ill_fated)
    check_failures(run, ill_fated, "LookupError")
    exam.check(run)
    assert engine.stats().num_cached_tokens == 0


def test_a_stop_check_ends_its_sequence_as_a_shorter_answer(exam: Exam) -> None:
    whole = next(
        request
        for request in exam.requests
        if isinstance(request.strategy, Greedy)
        and len(exam.references[request.request_id].token_ids[0]) > 6
    )
    (token_ids,) = exam.references[whole.request_id].token_ids
    stopped = replace(whole, request_id="stopped", stop=lambda generated: len(generated) == 4)
    run = run_staggered(build_engine(exam.architecture, CONFIG), [stopped, *exam.requests])
    (sequence,) = run.finished["stopped"].sequences
    assert sequence.finish_reason == "stop"
    assert sequence.token_ids == token_ids[:4]
    exam.check(run)
