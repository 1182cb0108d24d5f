"""The engine step by step: its events, its totals, what it refuses and how it gives up."""

import re
from dataclasses import replace

import pytest

from decoding.base import FinishReason, Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.errors import RequestTooLarge, StepFailed
from engine.messages import GenerationRequest, RequestFailed, RequestFinished, TokenEvent
from tests.engine.hash_runner import CONTEXT_LENGTH, HashRunner, build_engine, build_request
from tests.engine.shuffle import Shuffle
from tests.oracle.engine_run import EngineRun, run_alone


def test_an_idle_engine_has_no_work_and_no_events() -> None:
    runner = HashRunner()
    engine = build_engine(runner)
    assert not engine.has_work
    assert engine.step() == []
    assert runner.plans == []


def test_each_step_says_its_token_and_the_last_one_the_answer() -> None:
    engine = build_engine(HashRunner())
    assert engine.add(build_request("a", max_new_tokens=3)) == []
    steps = [engine.step() for _ in range(3)]
    assert [[type(event) for event in events] for events in steps] == [
        [TokenEvent],
        [TokenEvent],
        [TokenEvent, RequestFinished],
    ]
    tokens = [events[0] for events in steps]
    finished = steps[-1][-1]
    assert {event.request_id for event in (*tokens, finished)} == {"a"}
    (sequence,) = finished.sequences
    assert sequence.token_ids == tuple(event.token_ids[0] for event in tokens)
    assert sequence.logprobs == tuple(event.logprobs[0] for event in tokens)
    assert sequence.finish_reason is FinishReason.LENGTH
    assert all(logprob < 0 for logprob in sequence.logprobs)
    assert not engine.has_work


def test_an_end_token_ends_a_sequence_and_belongs_to_it() -> None:
    (full,) = run_alone(build_engine(HashRunner()), build_request()).tokens("request")
    request = build_request(eos_token_ids=frozenset({full[2]}))
    run = run_alone(build_engine(HashRunner()), request)
    (sequence,) = run.finished["request"].sequences
    assert sequence.finish_reason is FinishReason.EOS
    assert sequence.token_ids == full[: full.index(full[2]) + 1]


def test_a_stop_check_sees_all_generated_tokens_and_ends_its_sequence() -> None:
    seen = []

    def stop(generated_ids: tuple[int, ...]) -> bool:
        seen.append(tuple(generated_ids))
        return len(generated_ids) == 3

    run = run_alone(build_engine(HashRunner()), build_request(stop=stop, max_new_tokens=9))
    (sequence,) = run.finished["request"].sequences
    assert sequence.finish_reason is FinishReason.STOP
    assert seen == [sequence.token_ids[:length] for length in (1, 2, 3)]


@pytest.mark.parametrize(
    ("strategy", "num_sequences"),
    [(Greedy(), 1), (Sample(num_return_sequences=3), 3), (Beam(num_return_sequences=2), 2)],
)
def test_an_answer_has_as_many_sequences_as_asked_for(
    strategy: Strategy, num_sequences: int
) -> None:
    run = run_alone(build_engine(HashRunner()), build_request(strategy=strategy))
    assert len(run.tokens("request")) == num_sequences
    assert run.engine.stats().num_cached_tokens == 0


def test_more_rows_than_are_scored_at_once_go_on_together() -> None:
    request = replace(
        build_request(strategy=Sample(num_return_sequences=100), max_new_tokens=3), scored_from=1
    )
    engine = build_engine(HashRunner(num_blocks=800), max_rows=128)
    assert engine.add(request) == []
    ended = []
    for _ in range(10):
        ended += [each for each in engine.step() if isinstance(each, RequestFinished)]
    (finished,) = ended
    assert len(finished.sequences) == 100


def test_limits_are_those_of_the_runner_and_the_config() -> None:
    engine = build_engine(HashRunner(num_blocks=11, block_size=4), max_rows=7)
    limits = engine.limits
    assert limits.context_length == CONTEXT_LENGTH
    assert (limits.max_rows, limits.max_cached_tokens, limits.block_size) == (7, 40, 4)
    assert limits.vocab_size == 29


@pytest.mark.parametrize(
    ("request_", "numbers"),
    [
        (build_request(strategy=Shuffle(width=9)), (9, 8)),
        (
            build_request(prompt_ids=(1,) * 200, max_new_tokens=57),
            (200, 57, CONTEXT_LENGTH),
        ),
        (build_request(prompt_ids=(1,) * 30, max_new_tokens=15), (1, 45, 48, 40)),
        (build_request(strategy=Shuffle(width=3), max_new_tokens=11), (3, 14, 48, 40)),
    ],
    ids=["rows", "context", "cache", "cache of many rows"],
)
def test_a_request_that_could_never_run_is_refused_with_the_numbers_and_what_to_do(
    request_: GenerationRequest, numbers: tuple[int, ...]
) -> None:
    engine = build_engine(HashRunner(num_blocks=11, block_size=4), max_rows=8)
    with pytest.raises(RequestTooLarge) as refused:
        engine.check(request_)
    assert [int(number) for number in re.findall(r"\d+", str(refused.value))] == list(numbers)
    assert "; ask for fewer" in str(refused.value)


@pytest.mark.parametrize(
    "request_",
    [
        build_request(strategy=Sample(num_return_sequences=8), prompt_ids=(1,), max_new_tokens=3),
        build_request(prompt_ids=(1,) * 35, max_new_tokens=5),
        build_request(
            strategy=Sample(num_return_sequences=2), prompt_ids=(1,) * 9, max_new_tokens=11
        ),
    ],
    ids=["rows", "cache", "cache of many rows"],
)
def test_a_request_that_just_fits_runs_to_its_end(request_: GenerationRequest) -> None:
    run = run_alone(build_engine(HashRunner(num_blocks=11, block_size=4), max_rows=8), request_)
    assert "request" in run.finished


def test_a_request_of_exactly_the_context_is_served() -> None:
    request = build_request(prompt_ids=(1,) * (CONTEXT_LENGTH - 4), max_new_tokens=4)
    assert "request" in run_alone(build_engine(HashRunner()), request).finished


def test_totals_count_what_happened() -> None:
    engine = build_engine(HashRunner(), max_step_tokens=64)
    run = EngineRun(engine)
    run.submit(build_request("a", tuple(range(10)), max_new_tokens=4))
    run.finish()
    run.submit(build_request("b", tuple(range(11)), Sample(num_return_sequences=2)))
    run.submit(build_request("c", tuple(range(20, 25))))
    run.step()
    engine.cancel("c")
    engine.cancel("c")
    engine.cancel("never heard of")
    run.finish()
    stats = engine.stats()
    assert stats.num_prompt_tokens == 10 + 11 + 5
    assert stats.num_prompt_tokens_from_cache == 8, "two blocks of the same prompt"
    assert stats.num_generated_tokens == 4 + 2 * 5 + 1
    assert stats.num_steps == 4 + 5
    assert stats.num_step_rows == 4 + (1 + 2 * 4) + 1
    assert stats.num_step_tokens == (10 + 3) + (3 + 2 * 4) + 5
    assert stats.forward_seconds == stats.num_steps, "the clock ticks once a forward"
    assert (stats.num_cancellations, stats.num_failures, stats.num_preemptions) == (1, 0, 0)
    assert run.finished["b"].timings.num_cached_tokens == 8


def test_gauges_show_what_runs_and_waits() -> None:
    engine = build_engine(HashRunner(), max_rows=4)
    run = EngineRun(engine)
    run.submit(build_request("a", (1,) * 5, Sample(num_return_sequences=3)))
    run.submit(build_request("b"), build_request("c"))
    run.step()
    stats = engine.stats()
    assert (stats.num_running_requests, stats.num_waiting_requests) == (2, 1)
    assert stats.num_running_sequences == 3 + 1
    assert stats.num_cached_tokens == 2 * 4 + 4
    assert stats.max_cached_tokens == 399 * 4


def test_timings_follow_the_clock_and_preemptions_are_counted() -> None:
    engine = build_engine(HashRunner(num_blocks=7), max_rows=4)
    run = EngineRun(engine)
    run.submit(build_request("old", (1,) * 6, max_new_tokens=12))
    run.submit(build_request("young", (2,) * 6, max_new_tokens=12))
    run.finish()
    timings = run.finished["young"].timings
    assert timings.num_preemptions == engine.stats().num_preemptions > 0
    assert run.finished["old"].timings.num_preemptions == 0
    for seconds in (timings.queue_seconds, timings.prefill_seconds, timings.decode_seconds):
        assert seconds > 0


@pytest.mark.parametrize("num_steps", [0, 1, 2, 5])
def test_a_cancelled_request_gets_no_further_event_and_its_room_is_free(num_steps: int) -> None:
    engine = build_engine(HashRunner(), max_rows=4, max_step_tokens=8)
    run = EngineRun(engine)
    run.submit(build_request("kept", max_new_tokens=9))
    run.submit(build_request("cancelled", (1,) * 10, Beam(num_beams=3), max_new_tokens=9))
    run.step(num_steps)
    engine.cancel("cancelled")
    assert engine.stats().num_running_sequences <= 1
    run.finish()
    assert run.finished.keys() == {"kept"}
    assert engine.stats().num_cached_tokens == 0
    alone = run_alone(build_engine(HashRunner()), build_request("kept", max_new_tokens=9))
    assert run.tokens("kept") == alone.tokens("kept")


def test_a_failed_step_gives_up_what_ran_and_keeps_what_waits() -> None:
    runner = HashRunner()
    engine = build_engine(runner, max_rows=2)
    run = EngineRun(engine)
    run.submit(build_request("a"), build_request("b"), build_request("waits"))
    run.step()
    runner.before_forward = _fail
    with pytest.raises(RuntimeError, match="device lost"):
        engine.step()
    error = StepFailed("the model call failed")
    events = engine.fail_running(error)
    assert events == [RequestFailed(request_id=name, error=error) for name in ("a", "b")]
    assert engine.stats().num_cached_tokens == 0
    assert engine.stats().num_failures == 2
    runner.before_forward = HashRunner().before_forward
    run.finish()
    alone = run_alone(build_engine(HashRunner()), build_request("waits"))
    assert run.tokens("waits") == alone.tokens("waits")


def test_giving_everything_up_leaves_an_empty_engine() -> None:
    engine = build_engine(HashRunner(), max_rows=1)
    run = EngineRun(engine)
    run.submit(build_request("a"), build_request("b"))
    run.step()
    events = engine.fail_all(StepFailed("over"))
    assert [event.request_id for event in events] == ["a", "b"]
    assert not engine.has_work
    assert engine.stats().num_cached_tokens == 0


def _fail(_: object) -> None:
    raise RuntimeError("device lost")
