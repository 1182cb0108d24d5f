"""What requests asked to see, against the runner's own logits, for every way of decoding."""

from dataclasses import replace

import pytest
import torch

from decoding.beam import Beam
from decoding.best_of import BestOf
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.errors import RequestRefused
from engine.prompt_lookup import PromptLookup
from tests.engine.hash_runner import HashRunner, build_engine, build_request
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered

WAYS = (
    Greedy(),
    Sample(num_return_sequences=3),
    Beam(num_beams=4, num_return_sequences=2),
    BestOf(best_of=3),
)


def logprobs_after(token_ids: tuple[int, ...]) -> torch.Tensor:
    """Of a runner that computes this row alone."""
    seen: list[torch.Tensor] = []
    runner = HashRunner()
    forward = runner.forward

    def watch(plan):
        said = forward(plan)
        seen.append(said.values)
        return said

    runner.forward = watch  # type: ignore[method-assign]
    run_alone(build_engine(runner), build_request(prompt_ids=token_ids, max_new_tokens=1))
    return seen[-1][0].log_softmax(0)


@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
@pytest.mark.parametrize("num_blocks", [400, 30], ids=["roomy", "preempted"])
def test_alternatives_are_the_most_likely_tokens_at_each_place(strategy, num_blocks) -> None:
    request = build_request("r", (1, 2, 3), strategy, max_new_tokens=8, seed=4)
    request = replace(request, num_alternatives=3, eos_token_ids=frozenset({5}))
    others = [
        build_request(f"other {at}", (at, 1, 2), Sample(num_return_sequences=2), max_new_tokens=20)
        for at in range(3)
    ]
    engine = build_engine(HashRunner(num_blocks=num_blocks), max_rows=12)
    finished = run_staggered(engine, [*others[:2], request, others[2]]).finished["r"]
    assert len(finished.alternatives) == len(finished.sequences)
    for sequence, places in zip(finished.sequences, finished.alternatives, strict=True):
        assert len(places) == len(sequence.token_ids)
        for at, alternatives in enumerate(places):
            best = logprobs_after((1, 2, 3, *sequence.token_ids[:at])).topk(3)
            assert [token_id for token_id, _ in alternatives] == best.indices.tolist()
            assert [p for _, p in alternatives] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_drafts_do_not_change_the_alternatives() -> None:
    request = replace(
        build_request("r", (1, 2, 1, 2, 1), Sample(), max_new_tokens=20), num_alternatives=2
    )
    plain = run_alone(build_engine(HashRunner()), request).finished["r"]
    lookup = PromptLookup(num_tokens=4, max_ngram_size=1)
    drafted = run_alone(build_engine(HashRunner()), replace(request, lookup=lookup)).finished["r"]
    assert drafted.alternatives == plain.alternatives


def test_nobody_who_did_not_ask_gets_any() -> None:
    finished = run_alone(build_engine(HashRunner()), build_request("r")).finished["r"]
    assert finished.alternatives == ()
    assert finished.prompt_scores == ()


PROMPT = tuple((at * 5 + at // 7) % 29 for at in range(150))


@pytest.mark.parametrize("scored_from", [1, 2, 64, 149])
@pytest.mark.parametrize("budget", [20, 2000])
@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
def test_prompt_tokens_are_scored_from_where_it_was_asked(scored_from, budget, strategy) -> None:
    engine = build_engine(HashRunner(), max_rows=12, max_step_tokens=budget)
    run = EngineRun(engine)
    run.submit(build_request("first", PROMPT[:100], max_new_tokens=2))  # leaves a prefix behind
    run.finish()
    request = build_request("r", PROMPT, strategy, max_new_tokens=3, seed=2)
    asked = replace(request, scored_from=scored_from, num_prompt_alternatives=2)
    run.submit(build_request("other", PROMPT[:40], Beam(num_beams=3), max_new_tokens=9), asked)
    run.finish()
    finished = run.finished["r"]
    assert [score.token_id for score in finished.prompt_scores] == list(PROMPT[scored_from:])
    for at, score in enumerate(finished.prompt_scores, start=scored_from):
        if at % 29 in (0, 3) or at in (scored_from, 149):
            logprobs = logprobs_after(PROMPT[:at])
            assert score.logprob == pytest.approx(logprobs[PROMPT[at]].item(), abs=1e-5)
            best = logprobs.topk(2)
            assert [token_id for token_id, _ in score.alternatives] == best.indices.tolist()
    plain = run_alone(build_engine(HashRunner(), max_rows=12), request)
    assert run.tokens("r") == plain.tokens("r")


def test_what_need_not_be_scored_is_still_found_in_the_cache() -> None:
    run = EngineRun(build_engine(HashRunner()))
    run.submit(build_request("first", PROMPT, max_new_tokens=2))
    run.finish()
    run.submit(replace(build_request("r", PROMPT, max_new_tokens=1), scored_from=120))
    run.finish()
    assert 100 < run.finished["r"].timings.num_cached_tokens < 120


def test_a_step_scores_no_more_than_its_share() -> None:
    runner = HashRunner()
    run = EngineRun(build_engine(runner, max_step_tokens=2000))
    run.submit(replace(build_request("r", PROMPT, max_new_tokens=1), scored_from=1))
    run.finish()
    assert [plan.num_tokens for plan in runner.plans] == [64, 64, 22]


def test_a_runtime_without_these_logits_says_so() -> None:
    runner = HashRunner()
    runner.has_all_logits = False
    with pytest.raises(RequestRefused, match="no log-probabilities of prompt tokens"):
        build_engine(runner).check(replace(build_request(), scored_from=1))
