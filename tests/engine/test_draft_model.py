"""A draft model decides how many steps an answer takes, and nothing else."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.adjustments import NO_ADJUSTMENTS, Adjustments
from decoding.base import Hypothesis, Strategy
from decoding.beam import Beam
from decoding.best_of import BestOf
from decoding.greedy import Greedy
from decoding.logits import Logits
from decoding.mirostat import Mirostat
from decoding.sample import Sample
from decoding.xtc import XtcSampling
from engine.errors import RequestRefused
from engine.messages import GenerationRequest, NegativePrompt
from engine.plan import Plan
from engine.prompt_lookup import PromptLookup
from tests.engine.hash_runner import (
    BLOCK_SIZE,
    CONTEXT_LENGTH,
    VOCAB_SIZE,
    HashRunner,
    build_engine,
    build_request,
)
from tests.engine.slot_memory import expected_content
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered

END = 0
BIAS = Adjustments(logit_bias=((3, 2.0), (END, -9.0)))  # so that guesses are right now and then
STRATEGIES: tuple[Strategy, ...] = (
    Greedy(),
    Sample(temperature=0.2),
    Sample(num_return_sequences=3, temperature=0.3),
    XtcSampling(num_return_sequences=2),
    BestOf(best_of=3, num_return_sequences=2),
)


class OtherModel(HashRunner):
    """A draft that would always choose another token than the served model."""

    def forward(self, plan: Plan) -> Logits:
        return Logits(super().forward(plan).values.roll(1, dims=1))


def requests_of(
    strategies: Sequence[Strategy],
    *,
    num_tokens: int = 4,
    seed: int = 0,
    max_new_tokens: int = 24,
    adjustments: Adjustments = BIAS,
) -> list[GenerationRequest]:
    requests = [
        build_request(
            f"{at} {strategy.name}",
            tuple((at * 7 + place * 3) % 5 + 1 for place in range(9)),
            strategy,
            max_new_tokens=max_new_tokens,
            seed=seed + at,
            eos_token_ids=frozenset({END}),
            adjustments=adjustments,
        )
        for at, strategy in enumerate(strategies)
    ]
    return [replace(request, num_speculative_tokens=num_tokens) for request in requests]


def answers_alone(requests: Sequence[GenerationRequest]) -> list[tuple[Hypothesis, ...]]:
    """Without drafts, each with an engine to itself."""
    plain = [replace(request, num_speculative_tokens=0, lookup=None) for request in requests]
    return [
        run_alone(build_engine(HashRunner()), each).finished[each.request_id].sequences
        for each in plain
    ]


def text_alone(request: GenerationRequest) -> tuple[int, ...]:
    """The tokens of a request's first answer without drafts."""
    ((sequence, *_),) = answers_alone([request])
    return sequence.token_ids


def best_after(token_ids: Sequence[int]) -> int:
    """What `HashRunner` says of a text, worked out from the text alone."""
    content = repr(expected_content(token_ids)).encode()
    numbers = torch.frombuffer(bytearray(hashlib.blake2b(content).digest()), dtype=torch.int16)
    return int(numbers[:VOCAB_SIZE].argmax())


def check_guesses(plan: Plan) -> None:
    """Every draft is what the second model would say if it read the whole text anew."""
    for row in plan.rows:
        known = row.sequence.token_ids
        for guess in row.sequence.draft_ids:
            assert guess == best_after(known)
            known.append(guess)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    num_tokens=st.integers(1, 7),
    budget=st.integers(16, 60),
    num_blocks=st.integers(60, 200),
    num_draft_blocks=st.integers(8, 200),
    is_other=st.booleans(),
    lookup=st.sampled_from([None, PromptLookup(num_tokens=2, max_ngram_size=3)]),
)
def test_answers_are_those_without_drafts(
    seed: int,
    num_tokens: int,
    budget: int,
    num_blocks: int,
    num_draft_blocks: int,
    is_other: bool,
    lookup: PromptLookup | None,
) -> None:
    requests = [
        replace(request, lookup=lookup if at % 2 else None)
        for at, request in enumerate(requests_of(STRATEGIES, num_tokens=num_tokens, seed=seed))
    ]
    expected = answers_alone(requests)
    beams = [build_request("beam", strategy=Beam(num_beams=2), max_new_tokens=9)]
    runner = HashRunner(num_blocks=num_blocks)
    draft = (OtherModel if is_other else HashRunner)(num_blocks=num_draft_blocks)
    if not is_other and lookup is None:
        runner.before_forward = check_guesses
    engine = build_engine(runner, draft, max_rows=12, max_step_tokens=budget)
    run = run_staggered(engine, [*requests, *beams])
    for request, alone in zip(requests, expected, strict=True):
        assert run.finished[request.request_id].sequences == alone
    assert not run.failed
    assert draft.cache.num_used_tokens == 0
    assert all(plan.num_tokens <= budget for plan in draft.plans)


def test_the_served_model_as_its_own_draft_is_always_right() -> None:
    (request,) = requests_of([Greedy()], max_new_tokens=61, adjustments=NO_ADJUSTMENTS)
    request = replace(request, eos_token_ids=frozenset())
    runner, draft = HashRunner(), HashRunner()
    engine = build_engine(runner, draft)
    run = run_alone(engine, request)
    assert [run.finished[request.request_id].sequences] == answers_alone([request])
    stats = engine.stats()
    assert stats.num_accepted_draft_tokens == stats.num_draft_tokens == 48
    assert stats.num_steps == len(runner.plans) == 1 + 60 / 5
    assert stats.draft_seconds > 0
    # Of four guesses three are in its cache already: two tokens are new, then one a guess.
    assert [plan.num_tokens for plan in draft.plans[4:8]] == [2, 1, 1, 1]


def test_another_model_costs_nothing_but_time() -> None:
    (request,) = requests_of([Greedy()], max_new_tokens=30, adjustments=NO_ADJUSTMENTS)
    draft = OtherModel()
    engine = build_engine(HashRunner(), draft)
    run = run_alone(engine, request)
    assert [run.finished[request.request_id].sequences] == answers_alone([request])
    assert engine.stats().num_accepted_draft_tokens == 0
    assert engine.stats().num_draft_tokens > 0
    # All guesses are given up: the one token that was chosen is new, then one a guess.
    assert [plan.num_tokens for plan in draft.plans[4:8]] == [1, 1, 1, 1]


def test_all_rows_are_guessed_together() -> None:
    runner, draft = HashRunner(), HashRunner()
    engine = build_engine(runner, draft, max_rows=16, max_step_tokens=200)
    requests = requests_of([Greedy()] * 6, num_tokens=3)
    run = EngineRun(engine)
    run.submit(*requests)
    run.step(2)
    assert [len(plan.rows) for plan in draft.plans] == [6, 6, 6]
    assert [row.num_logits for row in runner.plans[-1].rows] == [4] * 6


def test_a_prompt_is_computed_once_for_all_samples_of_it() -> None:
    (request,) = requests_of([Sample(num_return_sequences=6)], num_tokens=3)
    request = replace(request, prompt_ids=tuple(place % 7 + 1 for place in range(101)))
    draft = HashRunner()
    run_alone(build_engine(HashRunner(), draft), request)
    prompt = [row for plan in draft.plans for row in plan.rows if row.start < 101]
    assert sum(min(row.end, 101) - row.start for row in prompt) <= 101 + 5 * BLOCK_SIZE


def test_a_long_prompt_is_computed_over_several_steps_while_others_go_on() -> None:
    (late,) = requests_of([Greedy()], num_tokens=2, max_new_tokens=20)
    late = replace(late, request_id="long", prompt_ids=(1, 2) * 50)
    (early,) = requests_of([Greedy()], num_tokens=2, max_new_tokens=40)
    runner, draft = HashRunner(), HashRunner()
    run = EngineRun(build_engine(runner, draft, max_rows=4, max_step_tokens=16))
    run.submit(early)
    run.step(4)
    run.submit(late)
    run.finish()
    assert max(plan.num_tokens for plan in draft.plans) <= 16
    guessed = {row.sequence.id for plan in runner.plans for row in plan.rows if row.num_logits > 1}
    assert len(guessed) == 2
    for request, alone in zip([early, late], answers_alone([early, late]), strict=True):
        assert run.finished[request.request_id].sequences == alone


def test_prompts_that_begin_alike_share_the_drafts_cache_under_one_salt() -> None:
    def num_computed(salt: str) -> int:
        draft = HashRunner()
        run = EngineRun(build_engine(HashRunner(), draft))
        for name, own in (("a", ""), ("b", salt)):
            (request,) = requests_of([Greedy()], max_new_tokens=6)
            prompt = (1, 2, 3, 4) * 10
            run.submit(replace(request, request_id=name, prompt_ids=prompt, cache_salt=own))
            run.finish()
        return sum(plan.num_tokens for plan in draft.plans)

    assert num_computed("") < num_computed("other") - 30


@pytest.mark.parametrize("ends", ["cancelled", "failed"])
def test_nothing_is_left_of_a_request_that_ends_early(ends: str) -> None:
    runner, draft = HashRunner(), HashRunner()
    run = EngineRun(build_engine(runner, draft, max_rows=8))
    run.submit(*requests_of([Greedy(), Sample(num_return_sequences=3)]))
    run.step(3)
    assert draft.cache.num_used_tokens > 0
    if ends == "cancelled":
        for name in ("0 greedy", "1 sample"):
            run.engine.cancel(name)
    else:
        run.record(run.engine.fail_running(RequestRefused("over")))
    assert draft.cache.num_used_tokens == runner.cache.num_used_tokens == 0


def test_a_preempted_row_leaves_the_drafts_cache_and_comes_back_right() -> None:
    requests = requests_of([Greedy(), Sample(), Greedy(), Sample()], max_new_tokens=60)
    runner, draft = HashRunner(num_blocks=40), HashRunner()
    runner.before_forward = check_guesses
    engine = build_engine(runner, draft, max_rows=4)
    run = EngineRun(engine)
    run.submit(*requests)
    while engine.has_work:
        run.step()
        held = {row.id for group in engine._scheduler.running for row in group.rows}
        assert draft.cache._tables.keys() <= held
    assert engine.stats().num_preemptions > 0
    for request, alone in zip(requests, answers_alone(requests), strict=True):
        assert run.finished[request.request_id].sequences == alone


def test_a_draft_that_lacks_room_guesses_for_as_many_rows_as_it_can() -> None:
    requests = requests_of([Greedy()] * 4, max_new_tokens=20)
    runner, draft = HashRunner(), HashRunner(num_blocks=10)
    run = EngineRun(build_engine(runner, draft, max_rows=4, max_step_tokens=100))
    run.submit(*requests)
    run.step(2)
    guessed = [row.num_logits > 1 for row in runner.plans[-1].rows]
    assert any(guessed)
    assert not all(guessed)
    run.finish()
    for request, alone in zip(requests, answers_alone(requests), strict=True):
        assert run.finished[request.request_id].sequences == alone


def test_a_draft_with_fewer_tokens_leaves_texts_alone_that_hold_others() -> None:
    low = Adjustments(logit_bias=tuple((token_id, 4.0) for token_id in range(1, 12)))
    requests = requests_of([Greedy()] * 3, adjustments=low)
    draft, read = HashRunner(), set()

    def note(plan: Plan) -> None:
        read.update(
            token_id
            for row in plan.rows
            for token_id in row.sequence.tokens_between(row.start, row.end)
        )

    draft.vocab_size, draft.before_forward = 12, note
    requests[1] = replace(requests[1], prompt_ids=(1, 20, 2))
    requests[2] = replace(requests[2], adjustments=NO_ADJUSTMENTS)
    run = EngineRun(build_engine(HashRunner(), draft))
    run.submit(*requests)
    run.finish()
    assert read
    assert max(read) < 12
    for request, alone in zip(requests, answers_alone(requests), strict=True):
        assert run.finished[request.request_id].sequences == alone


def test_tokens_that_the_served_model_lacks_are_not_guessed() -> None:
    class WiderModel(HashRunner):
        vocab_size = VOCAB_SIZE + 3

        def forward(self, plan: Plan) -> Logits:
            values = super().forward(plan).values
            return Logits(torch.cat([values, values.new_full((len(values), 3), 99.0)], dim=1))

    draft = WiderModel()
    draft.vocab_size = VOCAB_SIZE + 3
    (request,) = requests_of([Greedy()], adjustments=NO_ADJUSTMENTS)
    engine = build_engine(HashRunner(), draft)
    run_alone(engine, request)
    stats = engine.stats()
    assert stats.num_accepted_draft_tokens == stats.num_draft_tokens > 0


def test_a_draft_with_a_shorter_context_guesses_up_to_its_end() -> None:
    (request,) = requests_of([Greedy()], max_new_tokens=60, adjustments=NO_ADJUSTMENTS)
    request = replace(request, eos_token_ids=frozenset())
    runner, draft = HashRunner(), HashRunner()
    draft.context_length = 30
    run = run_alone(build_engine(runner, draft), request)
    assert max(row.end for plan in draft.plans for row in plan.rows) == 30 < CONTEXT_LENGTH
    assert [run.finished[request.request_id].sequences] == answers_alone([request])


def test_nothing_is_guessed_behind_the_end_of_a_text() -> None:
    (request,) = requests_of([Greedy()], max_new_tokens=60, adjustments=NO_ADJUSTMENTS)
    text = text_alone(request)
    end = next(token_id for token_id in text[9:] if token_id not in text[:9])
    request = replace(request, eos_token_ids=frozenset({end}), num_speculative_tokens=50)
    engine = build_engine(HashRunner(), HashRunner())
    run = run_alone(engine, request)
    assert run.tokens(request.request_id) == (text[: text.index(end) + 1],)
    assert engine.stats().num_draft_tokens == text.index(end)  # the first came with the prompt


def test_the_text_itself_is_looked_at_before_the_draft_model() -> None:
    bias = Adjustments(logit_bias=((3, 50.0),))
    (request,) = requests_of([Greedy()], max_new_tokens=40, adjustments=bias)
    lookup = PromptLookup(num_tokens=4, max_ngram_size=2)
    draft = OtherModel()
    engine = build_engine(HashRunner(), draft)
    run = run_alone(engine, replace(request, lookup=lookup))
    assert run.tokens(request.request_id) == ((3,) * 40,)
    assert not draft.plans
    assert engine.stats().num_accepted_draft_tokens > 20


def test_a_stop_among_the_guesses_ends_the_text_there() -> None:
    (request,) = requests_of([Greedy()], max_new_tokens=40, adjustments=NO_ADJUSTMENTS)
    text = text_alone(request)

    def stop(generated_ids: Sequence[int]) -> bool:
        return [*generated_ids[-2:]] == [*text[6:8]]

    stopped = replace(request, stop=stop, num_speculative_tokens=9)
    run = run_alone(build_engine(HashRunner(), HashRunner()), stopped)
    assert run.tokens(request.request_id) == (text[:8],)


def refused(request: GenerationRequest, draft: HashRunner | None, reason: str) -> None:
    with pytest.raises(RequestRefused, match=reason):
        build_engine(HashRunner(), draft).check(request)


def test_what_cannot_be_guessed_is_refused() -> None:
    (request,) = requests_of([Greedy()])
    build_engine(HashRunner(), HashRunner()).check(request)
    refused(request, None, "there is no draft model")
    for strategy in (Beam(), Mirostat()):
        refused(replace(request, strategy=strategy), HashRunner(), "cannot be sped up by drafts")
    negative = NegativePrompt(prompt_ids=(1,), scale=2.0)
    refused(replace(request, guidance=negative), HashRunner(), "cannot be sped up by drafts")
    runner = HashRunner()
    runner.has_all_logits = False
    with pytest.raises(RequestRefused, match="no drafts"):
        build_engine(runner, HashRunner()).check(request)


def test_a_draft_model_that_fails_costs_its_guesses_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    draft = HashRunner()
    engine = build_engine(HashRunner(), draft)
    requests = [
        replace(build_request("guessed", max_new_tokens=9), num_speculative_tokens=3),
        build_request("plain", prompt_ids=(4, 5), max_new_tokens=9),
    ]
    forward, calls = draft.forward, iter(range(100))

    def fail_now_and_then(plan: Plan) -> Logits:
        if next(calls) % 2:
            raise RuntimeError("no")
        return forward(plan)

    draft.forward = fail_now_and_then  # type: ignore[method-assign]
    run = run_staggered(engine, requests)
    for request in requests:
        (expected,) = run_alone(
            build_engine(HashRunner()), replace(request, num_speculative_tokens=0)
        ).finished.values()
        assert run.finished[request.request_id].sequences == expected.sequences
    assert "the draft model failed" in caplog.text
    assert draft.cache.num_used_tokens == 0
