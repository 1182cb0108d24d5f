"""A request gets the tokens it gets alone: in company, preempted, in chunks, or on a shared prefix.

Runs the real engine and the real strategies over a runner whose logits depend on what each row
reads back from its slots, so a block shared, copied or reused wrongly gives other tokens.
"""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.base import Hypothesis, Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from decoding.top_k import TopKSampling
from decoding.top_p import TopPSampling
from engine.messages import GenerationRequest
from tests.engine.hash_runner import HashRunner, build_engine, build_request
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered

STRATEGIES: tuple[Strategy, ...] = (
    Greedy(),
    Greedy(),
    Sample(num_return_sequences=3),
    Sample(temperature=2.0, top_k=0, top_p=1.0, min_p=0.02),
    TopKSampling(top_k=4, num_return_sequences=2),
    TopPSampling(top_p=0.8),
    Beam(num_beams=2),
    Beam(num_beams=4, num_return_sequences=3, length_penalty=0.0, early_stopping="never"),
    Beam(num_beams=3, early_stopping=True),
)
END_TOKENS = frozenset({0, 1})


@cache
def _sequences_alone(request: GenerationRequest) -> tuple[Hypothesis, ...]:
    run = run_alone(build_engine(HashRunner(), max_step_tokens=512), request)
    return run.finished[request.request_id].sequences


def _assert_as_alone(run: EngineRun, requests: list[GenerationRequest]) -> None:
    for request in requests:
        found = run.finished[request.request_id].sequences
        expected = _sequences_alone(request)
        assert [_tokens(each) for each in found] == [_tokens(each) for each in expected]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.logprobs == theirs.logprobs, "bit for bit"
            assert ours.score == theirs.score


def _tokens(hypothesis: Hypothesis) -> tuple[object, ...]:
    return hypothesis.token_ids, hypothesis.finish_reason


def _requests(count: int = 27) -> list[GenerationRequest]:
    return [
        build_request(
            f"{at} {STRATEGIES[at % len(STRATEGIES)].name}",
            tuple((at * at + position // 3) % 4 + 2 for position in range(1 + at * 5 % 13)),
            STRATEGIES[at % len(STRATEGIES)],
            max_new_tokens=10 + at * 7 % 17,
            seed=at,
            eos_token_ids=END_TOKENS if at % 2 else frozenset(),
        )
        for at in range(count)
    ]


@pytest.mark.parametrize("num_blocks", [400, 60, 42], ids=["roomy", "tight", "tightest"])
@pytest.mark.parametrize("max_step_tokens", [12, 64])
@pytest.mark.parametrize("block_size", [1, 3, 4])
def test_a_mixed_batch_gives_each_request_its_own_tokens(
    num_blocks: int, max_step_tokens: int, block_size: int
) -> None:
    runner = HashRunner(num_blocks=num_blocks * 4 // block_size, block_size=block_size)
    engine = build_engine(runner, max_rows=12, max_step_tokens=max_step_tokens)
    requests = _requests()
    run = run_staggered(engine, requests)
    _assert_as_alone(run, requests)
    assert engine.stats().num_cached_tokens == 0


def test_the_tightest_cache_does_preempt_groups_of_many_rows() -> None:
    engine = build_engine(HashRunner(num_blocks=42), max_rows=12, max_step_tokens=64)
    run = run_staggered(engine, _requests())
    preempted = {
        request_id.split()[1]
        for request_id, finished in run.finished.items()
        if finished.timings.num_preemptions
    }
    assert preempted & {"beam", "sample"}


@settings(max_examples=60)
@given(
    picked=st.lists(st.tuples(st.integers(0, 26), st.integers(0, 4)), min_size=1, max_size=12),
    num_blocks=st.integers(42, 55),
    extra_budget=st.integers(0, 20),
    data=st.data(),
)
def test_submissions_and_cancellations_in_any_order_change_no_tokens(
    picked: list[tuple[int, int]], num_blocks: int, extra_budget: int, data: st.DataObject
) -> None:
    runner = HashRunner(num_blocks=num_blocks)
    run = EngineRun(build_engine(runner, max_rows=12, max_step_tokens=12 + extra_budget))
    kept = []
    for number, (at, num_steps) in enumerate(picked):
        request = _requests()[at]
        named = replace(request, request_id=f"{number} {request.request_id}")
        run.submit(named)
        run.step(num_steps)
        kept.append(named)
        if data.draw(st.booleans()):
            cancelled = kept.pop(data.draw(st.integers(0, len(kept) - 1)))
            run.engine.cancel(cancelled.request_id)
    run.finish()
    ended = [request for request in kept if request.request_id in run.finished]
    assert len(ended) == len(kept)
    for request in kept:
        found = run.tokens(request.request_id)
        original = request.request_id.split(" ", 1)[1]
        expected = _sequences_alone(replace(request, request_id=original))
        assert found == tuple(each.token_ids for each in expected)
    assert run.engine.stats().num_cached_tokens == 0


def test_the_same_seed_draws_the_same_tokens_and_another_seed_does_not() -> None:
    request = build_request("sample", (3, 4, 5), Sample(), max_new_tokens=20, seed=11)
    assert _sequences_alone(request) == _sequences_alone(replace(request, request_id="again"))
    assert _sequences_alone(request) != _sequences_alone(replace(request, seed=12))


def test_sequences_of_one_request_differ() -> None:
    request = build_request("many", strategy=Sample(num_return_sequences=4), max_new_tokens=10)
    assert len({each.token_ids for each in _sequences_alone(request)}) == 4


def test_a_salt_keeps_prompts_apart_and_changes_no_tokens() -> None:
    prompt = tuple(range(2, 20))
    engine = build_engine(HashRunner(), max_step_tokens=64)
    run = EngineRun(engine)
    salts = {"a": "", "b": "tenant", "c": "tenant", "d": ""}
    for request_id, salt in salts.items():
        run.submit(build_request(request_id, prompt, cache_salt=salt))
        run.step(1)
    run.finish()
    cached = {name: run.finished[name].timings.num_cached_tokens for name in salts}
    assert cached == {"a": 0, "b": 0, "c": 16, "d": 16}
    assert len({run.tokens(name) for name in salts}) == 1
