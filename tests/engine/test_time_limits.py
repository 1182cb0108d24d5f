"""Requests whose time is up: an answer so far, or an error where nothing was begun."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from decoding.base import (
    CanBeCutShort,
    Decision,
    DecodingRow,
    FinishReason,
    Hypothesis,
    ModelDepth,
    Strategy,
)
from decoding.beam import Beam
from decoding.beam_sample import BeamSample
from decoding.best_of import BestOf
from decoding.constrained_beam import ConstrainedBeam
from decoding.contrastive import Contrastive
from decoding.diverse_beam import DiverseBeam
from decoding.greedy import Greedy
from decoding.mirostat import Mirostat
from decoding.registry import STRATEGIES
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import DecodingFailed, QueueTimedOut
from engine.messages import GenerationRequest
from engine.trace import TraceOptions
from engine.urgency import Urgency
from tests.engine.hand_clock import HandClock
from tests.engine.hash_runner import HashRunner, build_request
from tests.engine.shuffle import Shuffle, ShuffleDecoder
from tests.oracle.engine_run import EngineRun

SAME_AS_SHORTER: Sequence[Strategy] = [
    Greedy(),
    Sample(num_return_sequences=3),
    Mirostat(num_return_sequences=2),
    BestOf(best_of=4, num_return_sequences=2),
    Beam(num_beams=3),
    Beam(num_beams=3, num_return_sequences=2, length_penalty=0.0),
]
OTHERS: Sequence[Strategy] = [
    DiverseBeam(num_beams=4, num_beam_groups=2, num_return_sequences=2),
    BeamSample(num_beams=3, num_return_sequences=2),
    Contrastive(),
    ConstrainedBeam(force_words=("word",), num_beams=3),
]


class TimedRun(EngineRun):
    """A run whose clock stands still until it is told."""

    def __init__(self, *, num_blocks: int = 400, **bounds: int) -> None:
        self.clock = HandClock()
        config = EngineConfig(**({"block_size": 4, "max_step_tokens": 64} | bounds))
        super().__init__(Engine(HashRunner(num_blocks=num_blocks), config, clock=self.clock))

    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds


def limited(
    strategy: Strategy | None = None,
    *,
    name: str = "limited",
    num_prompt: int = 5,
    new: int = 30,
    timeout: float | None = 10.0,
    queue_timeout: float | None = None,
) -> GenerationRequest:
    request = build_request(name, tuple(range(num_prompt)), strategy, max_new_tokens=new, seed=3)
    urgency = Urgency(timeout_seconds=timeout, queue_timeout_seconds=queue_timeout)
    return replace(request, urgency=urgency, phrases_of=lambda _: [(7, 8, 9)])


def cut_after(request: GenerationRequest, num_steps: int) -> tuple[Hypothesis, ...]:
    run = TimedRun()
    run.submit(request)
    run.step(num_steps)
    assert run.engine.has_work
    run.wait(10.0)
    run.record(run.engine.end_overdue())
    assert not run.engine.has_work
    stats = run.engine.stats()
    assert (stats.num_cached_tokens, stats.num_timeouts, stats.num_failures) == (0, 1, 0)
    return run.finished[request.request_id].sequences


@pytest.mark.parametrize("num_steps", [1, 2, 7])
@pytest.mark.parametrize("strategy", SAME_AS_SHORTER, ids=lambda each: each.name)
def test_what_is_cut_short_is_the_answer_to_a_shorter_request(
    strategy: Strategy, num_steps: int
) -> None:
    cut = cut_after(limited(strategy), num_steps)
    shorter = TimedRun()
    shorter.submit(limited(strategy, new=num_steps, timeout=None))
    shorter.finish()
    assert {each.finish_reason for each in cut} == {FinishReason.TIMEOUT}
    expected = shorter.finished["limited"].sequences
    assert [(each.token_ids, each.logprobs, each.score) for each in cut] == [
        (each.token_ids, each.logprobs, each.score) for each in expected
    ]


@pytest.mark.parametrize("strategy", OTHERS, ids=lambda each: each.name)
def test_other_searches_end_with_the_best_they_have(strategy: Strategy) -> None:
    cut = cut_after(limited(strategy), 6)
    assert {each.finish_reason for each in cut} == {FinishReason.TIMEOUT}
    assert len(cut) == strategy.num_results
    assert {len(each.token_ids) for each in cut} == {5 if strategy == Contrastive() else 6}
    scores = [each.score for each in cut if each.score is not None]
    assert scores == sorted(scores, reverse=True)


def test_a_beam_that_holds_all_words_comes_before_those_that_do_not() -> None:
    strategy = ConstrainedBeam(force_words=("word",), num_beams=3, num_return_sequences=3)
    cut = cut_after(limited(strategy), 12)
    holds = ["7, 8, 9" in str(each.token_ids) for each in cut]
    assert holds == sorted(holds, reverse=True)
    assert holds[0]


def test_a_sequence_that_has_ended_stays_as_it_is_and_the_others_are_cut() -> None:
    full = TimedRun()
    full.submit(limited(Sample(num_return_sequences=2), timeout=None))
    full.finish()
    first, second = (each.token_ids for each in full.finished["limited"].sequences)
    end = next(token for token in first[:8] if token not in second[:8])
    request = limited(Sample(num_return_sequences=2))
    cut = cut_after(replace(request, eos_token_ids=frozenset({end})), 8)
    assert [each.finish_reason for each in cut] == [FinishReason.EOS, FinishReason.TIMEOUT]
    assert cut[0].token_ids == first[: first.index(end) + 1]
    assert cut[1].token_ids == second[:8]


def test_a_request_without_its_first_token_ends_with_as_many_empty_sequences() -> None:
    run = TimedRun(max_step_tokens=8, max_rows=4)
    run.submit(limited(Sample(num_return_sequences=3), num_prompt=28))
    run.step(2)
    run.wait(10.0)
    run.finish()
    sequences = run.finished["limited"].sequences
    assert [each.token_ids for each in sequences] == [(), (), ()]
    assert {each.finish_reason for each in sequences} == {FinishReason.TIMEOUT}
    timings = run.finished["limited"].timings
    assert (timings.queue_seconds, timings.prefill_seconds) == (0.0, 10.0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_of_ours_says_what_it_has(name: str) -> None:
    depth = ModelDepth(num_layers=8, has_tied_embeddings=False)
    decoder = STRATEGIES[name]().start(replace(limited().task, depth=depth))
    assert isinstance(decoder, CanBeCutShort), "give its decoder `cut_short`"


@pytest.mark.parametrize("strategy", [*SAME_AS_SHORTER, *OTHERS], ids=lambda each: each.name)
def test_every_strategy_can_be_cut_before_its_first_token(strategy: Strategy) -> None:
    run = TimedRun(max_step_tokens=8, max_rows=4)
    run.submit(limited(strategy, num_prompt=28))
    run.step(2)
    run.wait(10.0)
    run.finish()
    assert {each.token_ids for each in run.finished["limited"].sequences} == {()}


@pytest.mark.parametrize(
    ("timeout", "queue_timeout"), [(5.0, None), (None, 5.0), (9.0, 5.0), (5.0, 9.0)]
)
def test_a_request_that_is_not_begun_in_time_fails_and_nobody_else(
    timeout: float | None, queue_timeout: float | None
) -> None:
    run = TimedRun(max_rows=1)
    run.submit(build_request("runs", max_new_tokens=9))
    run.step()
    run.submit(limited(timeout=timeout, queue_timeout=queue_timeout))
    run.submit(build_request("waits", max_new_tokens=3))
    run.step()
    run.wait(4.9)
    run.step()
    assert not run.failed
    run.wait(0.1)
    run.step()
    assert isinstance(run.failed["limited"].error, QueueTimedOut)
    run.finish()
    assert run.finished.keys() == {"runs", "waits"}
    stats = run.engine.stats()
    assert (stats.num_queue_timeouts, stats.num_timeouts, stats.num_failures) == (1, 0, 0)


def test_a_queue_time_does_not_count_once_a_request_has_begun() -> None:
    run = TimedRun()
    run.submit(limited(new=3, timeout=None, queue_timeout=1.0))
    run.step()
    run.wait(100.0)
    run.finish()
    (sequence,) = run.finished["limited"].sequences
    assert sequence.finish_reason is FinishReason.LENGTH


def test_a_preempted_request_is_cut_short_while_it_waits_and_keeps_its_tokens() -> None:
    run = TimedRun(num_blocks=7, max_rows=4)
    run.submit(build_request("old", (1,) * 6, max_new_tokens=12))
    run.submit(limited(num_prompt=6, new=12, timeout=10.0, queue_timeout=5.0))
    while not run.engine.stats().num_preemptions:
        run.step()
    streamed = run.streamed("limited")
    run.wait(9.0)
    run.step()
    assert "limited" not in run.failed
    run.wait(1.0)
    run.step()
    assert streamed
    assert run.tokens("limited") == (streamed,)
    run.finish()
    assert run.finished.keys() == {"old", "limited"}


def test_neighbours_of_what_is_cut_short_get_the_tokens_they_get_alone() -> None:
    neighbour = build_request("neighbour", (4, 5, 6), Beam(num_beams=3), max_new_tokens=12)
    run, alone = TimedRun(), TimedRun()
    run.submit(neighbour, limited(Beam(num_beams=4)))
    run.step(5)
    run.wait(10.0)
    run.finish()
    alone.submit(neighbour)
    alone.finish()
    assert run.tokens("neighbour") == alone.tokens("neighbour")


def test_a_trace_of_what_is_cut_short_ends_at_its_last_tokens() -> None:
    run = TimedRun()
    options = TraceOptions(num_candidates=2, max_steps=50)
    run.submit(replace(limited(Beam(num_beams=3)), trace=options))
    run.step(4)
    run.wait(10.0)
    run.finish()
    trace = run.finished["limited"].trace
    nodes = {node.id: node for step in trace.steps for node in step}
    (at,), path = trace.ends, []
    while nodes[at].parent is not None:
        path.append(nodes[at].token_id)
        at = nodes[at].parent
    assert (tuple(path[::-1]),) == run.tokens("limited")


def test_of_a_strategy_that_cannot_say_what_it_has_the_rows_are_the_answer() -> None:
    run = TimedRun()
    run.submit(limited(Shuffle(width=2)))
    run.step(4)
    run.wait(10.0)
    (finished,) = run.engine.end_overdue()  # it streams nothing, so what it has is all new
    (cut,) = finished.sequences
    assert len(cut.token_ids) == 4
    assert cut.finish_reason is FinishReason.TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Stubborn(Shuffle):
    """Does not end."""

    answer: Decision | None = None
    name: ClassVar[str] = "stubborn"

    def start(self, task: object) -> "StubbornDecoder":
        return StubbornDecoder(self, task)


class StubbornDecoder(ShuffleDecoder):
    def __init__(self, strategy: Stubborn, task: object) -> None:
        super().__init__(strategy.width, task)
        self._answer = strategy.answer

    def cut_short(self, rows: Sequence[DecodingRow]) -> Decision:
        del rows
        if self._answer is None:
            raise RuntimeError("not now")
        return self._answer


@pytest.mark.parametrize("answer", [None, Decision()], ids=["raises", "answers nothing"])
def test_a_strategy_that_cannot_end_fails_alone(answer: Decision | None) -> None:
    run = TimedRun()
    run.submit(limited(Stubborn(answer=answer)), build_request("other"))
    run.step()
    run.wait(10.0)
    run.finish()
    assert isinstance(run.failed["limited"].error, DecodingFailed)
    assert "other" in run.finished
    assert run.engine.stats().num_cached_tokens == 0
