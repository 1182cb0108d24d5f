"""Drafts change how many steps an answer takes, and nothing else."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.adjustments import Adjustments
from decoding.base import Strategy
from decoding.beam import Beam
from decoding.best_of import BestOf
from decoding.greedy import Greedy
from decoding.mirostat import Mirostat
from decoding.sample import Sample
from decoding.xtc import XtcSampling
from engine.errors import RequestRefused
from engine.prompt_lookup import PromptLookup
from tests.engine.hash_runner import BLOCK_SIZE, HashRunner, build_engine, build_request
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered

LOOKUP = PromptLookup(num_tokens=4, max_ngram_size=2)
REPEATS = Adjustments(logit_bias=((3, 4.0), (4, 4.0)))  # so that guesses are right now and then
STRATEGIES: tuple[Strategy, ...] = (
    Greedy(),
    Sample(),
    Sample(num_return_sequences=3, temperature=0.5),
    XtcSampling(num_return_sequences=2),
    BestOf(best_of=3, num_return_sequences=2),
)


def requests_of(strategies, *, seed=0, max_new_tokens=24, adjustments=REPEATS):
    return [
        build_request(
            f"{at} {strategy.name}",
            tuple((at * 7 + place * 3) % 5 + 1 for place in range(9)),
            strategy,
            max_new_tokens=max_new_tokens,
            seed=seed + at,
            eos_token_ids=frozenset({0}),
            adjustments=adjustments,
        )
        for at, strategy in enumerate(strategies)
    ]


def with_drafts(requests, lookup=LOOKUP):
    return [replace(request, lookup=lookup) for request in requests]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    num_tokens=st.integers(1, 9),
    max_ngram_size=st.integers(1, 4),
    budget=st.integers(16, 60),
    num_blocks=st.integers(60, 200),
)
def test_answers_are_those_without_drafts(
    seed: int, num_tokens: int, max_ngram_size: int, budget: int, num_blocks: int
) -> None:
    requests = requests_of(STRATEGIES, seed=seed)
    plain = [
        run_alone(build_engine(HashRunner()), each).finished[each.request_id] for each in requests
    ]
    lookup = PromptLookup(num_tokens=num_tokens, max_ngram_size=max_ngram_size)
    beams = [build_request("beam", strategy=Beam(num_beams=2), max_new_tokens=9)]
    engine = build_engine(HashRunner(num_blocks=num_blocks), max_rows=12, max_step_tokens=budget)
    run = run_staggered(engine, [*with_drafts(requests, lookup), *beams])
    for request, alone in zip(requests, plain, strict=True):
        assert run.finished[request.request_id].sequences == alone.sequences
    assert not run.failed


def test_right_guesses_save_steps_and_are_counted() -> None:
    (request,) = requests_of(
        [Greedy()], max_new_tokens=60, adjustments=Adjustments(logit_bias=((3, 50.0),))
    )
    plain, drafted = build_engine(HashRunner()), build_engine(HashRunner())
    run_alone(plain, request)
    run = run_alone(drafted, with_drafts([request])[0])
    assert run.tokens(request.request_id) == ((3,) * 60,)
    assert drafted.stats().num_steps < plain.stats().num_steps / 3
    stats = drafted.stats()
    assert 0 < stats.num_accepted_draft_tokens <= stats.num_draft_tokens
    assert stats.num_generated_tokens == 60
    assert plain.stats().num_draft_tokens == 0


def test_wrong_guesses_leave_nothing_behind_in_the_cache() -> None:
    """Another request with the same beginning reads what the first one wrote."""
    (request,) = requests_of([Sample()], max_new_tokens=40)
    engine = build_engine(HashRunner())
    run = run_alone(engine, with_drafts([request])[0])
    assert engine.stats().num_accepted_draft_tokens < engine.stats().num_draft_tokens
    (tokens,) = run.tokens(request.request_id)
    again = build_request("again", (*request.prompt_ids, *tokens), max_new_tokens=8)
    alone = run_alone(build_engine(HashRunner()), again)
    run.submit(again)
    run.finish()
    assert run.finished["again"].timings.num_cached_tokens >= 40 - BLOCK_SIZE
    assert run.tokens("again") == alone.tokens("again")


def test_a_stop_or_an_end_among_the_drafts_ends_the_text_there() -> None:
    def stop(generated_ids):
        return [*generated_ids[-3:]] == [3, 3, 3]

    bias = Adjustments(logit_bias=((3, 50.0),))
    request = build_request("r", (3, 3, 3, 3), max_new_tokens=30, stop=stop, adjustments=bias)
    run = run_alone(build_engine(HashRunner()), replace(request, lookup=LOOKUP))
    assert run.tokens("r") == ((3, 3, 3),)
    ended = replace(request, stop=None, eos_token_ids=frozenset({3}), lookup=LOOKUP)
    assert run_alone(build_engine(HashRunner()), ended).tokens("r") == ((3,),)


def test_drafts_take_no_more_than_the_steps_budget_and_nobody_elses_turn() -> None:
    runner = HashRunner()
    engine = build_engine(runner, max_rows=8, max_step_tokens=12)
    bias = Adjustments(logit_bias=((3, 50.0),))
    run = EngineRun(engine)
    run.submit(*with_drafts(requests_of([Greedy()] * 4, max_new_tokens=20, adjustments=bias)))
    run.submit(build_request("late", tuple(range(1, 20)), max_new_tokens=3))
    run.finish()
    assert max(plan.num_tokens for plan in runner.plans) <= 12
    firsts = [sum(row.num_logits > 1 for row in plan.rows) for plan in runner.plans]
    assert any(firsts)
    assert any(a != b for a, b in pairwise(firsts))


@pytest.mark.parametrize("strategy", [Beam(), Mirostat()], ids=lambda each: each.name)
def test_a_strategy_that_takes_no_drafts_is_refused(strategy: Strategy) -> None:
    request = build_request(strategy=strategy)
    with pytest.raises(RequestRefused, match="cannot be sped up by drafts"):
        build_engine(HashRunner()).check(replace(request, lookup=LOOKUP))


def test_a_runtime_that_takes_no_drafts_refuses_them() -> None:
    runner = HashRunner()
    runner.has_all_logits = False
    with pytest.raises(RequestRefused, match="no drafts"):
        build_engine(runner).check(replace(build_request(), lookup=LOOKUP))
