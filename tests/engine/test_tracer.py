"""Traces of real decodes: the tree leads to what was returned, and the numbers add up."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from decoding.adjustments import Adjustments
from decoding.base import Candidate, Decision, DecodingRow, Strategy, Task
from decoding.beam import Beam, BeamDecoder
from decoding.beam_sample import BeamSample
from decoding.best_of import BestOf
from decoding.considered import Outcome
from decoding.constrained_beam import ConstrainedBeam
from decoding.contrastive import Contrastive
from decoding.diverse_beam import DiverseBeam
from decoding.registry import STRATEGIES
from decoding.sample import Sample
from engine import observe, tracer
from engine.messages import GenerationRequest, NegativePrompt, RequestFinished
from engine.prompt_lookup import PromptLookup
from engine.trace import Trace, TraceNode, TraceOptions
from tests.engine.hash_runner import HashRunner, build_engine, build_request
from tests.engine.shuffle import Shuffle
from tests.oracle.engine_run import run_alone, run_staggered

OPTIONS = TraceOptions(num_candidates=3, max_steps=50)
ENDS = frozenset({5, 6, 7})
BEAMS: Sequence[Strategy] = (
    Beam(num_beams=4, num_return_sequences=3),
    Beam(num_beams=3, early_stopping=True, length_penalty=0.0),
    BeamSample(num_beams=4, num_return_sequences=2, temperature=2.0),
    DiverseBeam(num_beams=4, num_beam_groups=2, num_return_sequences=4, diversity_penalty=1.0),
    ConstrainedBeam(num_beams=3, force_words=("a",)),
)
WAYS: Sequence[Strategy] = (
    *(strategy() for strategy in STRATEGIES.values()),
    Sample(num_return_sequences=4, temperature=0.6),
    BestOf(best_of=4, num_return_sequences=2),
    *BEAMS,
)


def traced(strategy: Strategy, **more: object) -> GenerationRequest:
    request = build_request("r", (1, 2, 3), strategy, max_new_tokens=8, seed=4)
    given = {"eos_token_ids": ENDS, "trace": OPTIONS, "phrases_of": lambda _: ((9, 11),)}
    return replace(request, **{**given, **more})  # type: ignore[arg-type]


def run(request: GenerationRequest, num_blocks: int = 400) -> RequestFinished:
    engine = build_engine(HashRunner(num_blocks=num_blocks), max_rows=12)
    return run_alone(engine, request).finished["r"]


def trace_of(finished: RequestFinished) -> Trace:
    assert finished.trace is not None
    return finished.trace


def nodes_of(trace: Trace) -> Mapping[int, TraceNode]:
    return {node.id: node for step in trace.steps for node in step}


def path_to(trace: Trace, end: int) -> list[TraceNode]:
    """The nodes from the root, without it."""
    nodes, path = nodes_of(trace), []
    node = nodes[end]
    while node.parent is not None:
        path.append(node)
        node = nodes[node.parent]
    return path[::-1]


def chosen(trace: Trace) -> Iterator[tuple[TraceNode, TraceNode]]:
    nodes = nodes_of(trace)
    return ((nodes[node.parent], node) for node in nodes.values() if node.parent is not None)


@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
def test_following_the_tree_gives_what_was_returned(strategy: Strategy) -> None:
    finished = run(traced(strategy))
    trace = trace_of(finished)
    assert list(nodes_of(trace)) == list(range(len(nodes_of(trace))))
    assert not trace.is_truncated
    for sequence, end in zip(finished.sequences, trace.ends, strict=True):
        path = path_to(trace, end)
        assert tuple(node.token_id for node in path) == sequence.token_ids
        assert [node.logprob for node in path] == pytest.approx(sequence.logprobs, abs=1e-5)
        assert path[-1].finish_reason is sequence.finish_reason
        assert not path[-1].candidates
    assert len(set(trace.ends)) == len(trace.ends)


@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
def test_every_candidate_has_a_reason_and_chosen_ones_are_nodes(strategy: Strategy) -> None:
    trace = trace_of(run(traced(strategy)))
    went = {Outcome.CONTINUED, Outcome.FINISHED, Outcome.SURPASSED}
    told = {
        (node.id, each.token_id): each
        for node in nodes_of(trace).values()
        for each in node.candidates
    }
    assert {key for key, each in told.items() if each.outcome in went} == {
        (parent.id, node.token_id) for parent, node in chosen(trace)
    }
    for depth, step in enumerate(trace.steps):
        for node in step:
            assert len(path_to(trace, node.id)) == depth
            shares = [math.exp(each.processed_logprob) for each in node.candidates]
            assert sum(shares) <= 1 + 1e-5
            for each in node.candidates:
                dropped = each.processed_logprob == -math.inf
                assert (each.outcome is Outcome.FILTERED) == dropped
    for parent, node in chosen(trace):
        each = told[parent.id, node.token_id or 0]
        assert node.processed_logprob == each.processed_logprob
        if node.finish_reason is None:
            assert each.outcome is Outcome.CONTINUED
            assert node.candidates


@pytest.mark.parametrize("strategy", BEAMS, ids=lambda each: each.name)
def test_scores_of_beams_are_sums_and_final_ones_those_returned(strategy: Strategy) -> None:
    finished = run(traced(strategy))
    trace = trace_of(finished)
    plain = isinstance(strategy, Beam | ConstrainedBeam)
    for parent, node in chosen(trace):
        assert node.score is not None
        if plain and node.logprob is not None:
            assert node.score == pytest.approx((parent.score or 0.0) + node.logprob, abs=1e-4)
    penalty = strategy.length_penalty  # type: ignore[attr-defined]
    for sequence, end in zip(finished.sequences, trace.ends, strict=True):
        node = nodes_of(trace)[end]
        assert node.final_score == sequence.score
        assert node.score is not None
        length = len(sequence.token_ids)
        assert node.final_score == pytest.approx(node.score / length**penalty)


def test_reasons_of_beams_tell_the_search() -> None:
    outcomes = set()
    for strategy in BEAMS:
        nodes = nodes_of(trace_of(run(traced(strategy)))).values()
        outcomes |= {each.outcome for node in nodes for each in node.candidates}
    assert outcomes == set(Outcome) - {Outcome.NOT_CHOSEN, Outcome.FILTERED}


def test_a_rank_is_what_decides_among_beams() -> None:
    trace = trace_of(run(traced(Beam(num_beams=4), eos_token_ids=frozenset())))
    for step, following in zip(trace.steps[:-2], trace.steps[1:-1], strict=True):
        last_kept = min(node.score or 0.0 for node in following)
        for node in step:
            for each in node.candidates:
                if each.outcome is Outcome.OUTRANKED:
                    assert each.score is not None
                    assert each.score <= last_kept


@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
def test_company_and_preemption_do_not_change_a_trace(strategy: Strategy) -> None:
    alone = run(traced(strategy))
    others = [
        build_request(f"other {at}", (at, 1, 2), Sample(num_return_sequences=2), max_new_tokens=20)
        for at in range(3)
    ]
    engine = build_engine(HashRunner(num_blocks=30), max_rows=12)
    crowded = run_staggered(engine, [*others[:2], traced(strategy), others[2]]).finished
    assert crowded["r"].trace == alone.trace
    assert all(crowded[f"other {at}"].trace is None for at in range(3))


@pytest.mark.parametrize(
    "strategy", [STRATEGIES["greedy"](), Sample(num_return_sequences=3), BestOf(best_of=3)]
)
def test_drafts_do_not_change_a_trace(strategy: Strategy) -> None:
    bias = Adjustments(logit_bias=((1, 5.0), (2, 5.0)))
    request = traced(strategy, prompt_ids=(1, 2, 1, 2, 1, 1, 2), adjustments=bias)
    engines = [build_engine(HashRunner(), max_rows=12) for _ in range(2)]
    lookup = PromptLookup(num_tokens=4, max_ngram_size=1)
    plain = run_alone(engines[0], request).finished["r"]
    drafted = run_alone(engines[1], replace(request, lookup=lookup)).finished["r"]
    assert engines[1].stats().num_steps < engines[0].stats().num_steps
    assert drafted.trace == plain.trace


def test_adjustments_and_guidance_show_in_what_is_processed() -> None:
    adjusted = Adjustments(logit_bias=((4, 3.0),), suppress_tokens=(20, 21, 22, 23, 24, 25, 26))
    guidance = NegativePrompt(prompt_ids=(9, 8), scale=3.0)
    plain = trace_of(run(traced(Beam()))).steps[0][0]
    node = trace_of(run(traced(Beam(), adjustments=adjusted, guidance=guidance))).steps[0][0]
    assert plain.candidates != node.candidates
    dropped = {each.token_id for each in node.candidates if each.outcome is Outcome.FILTERED}
    likely = [each.token_id for each in plain.candidates][:3]
    assert dropped == set(likely) & set(range(20, 27))
    assert dropped


class OnlyEven:
    """Allows tokens of even id."""

    def allowed(self, generated_ids: Sequence[int]) -> np.ndarray:
        del generated_ids
        return np.array([0x55555555], np.uint32)


@pytest.mark.parametrize("strategy", [Sample(), Beam()], ids=lambda each: each.name)
def test_forbidden_tokens_are_shown_as_dropped(strategy: Strategy) -> None:
    trace = trace_of(run(traced(strategy, constraint=OnlyEven())))
    seen = [each for node in nodes_of(trace).values() for each in node.candidates]
    odd = [each for each in seen if each.token_id % 2]
    assert odd
    assert all(each.outcome is Outcome.FILTERED for each in odd)


@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
def test_who_does_not_ask_pays_nothing(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("computed for nobody")

    monkeypatch.setattr(observe, "consider", refuse)
    engine = build_engine(HashRunner(), max_rows=12)
    assert not engine.add(traced(strategy, trace=None))
    while engine.has_work:
        events = engine.step()
    assert isinstance(events[-1], RequestFinished)
    assert events[-1].trace is None


@pytest.mark.parametrize("strategy", WAYS, ids=lambda each: each.name)
def test_a_trace_is_cut_after_so_many_steps(strategy: Strategy) -> None:
    options = replace(OPTIONS, max_steps=2)
    whole = run(traced(strategy, eos_token_ids=frozenset()))
    cut = run(traced(strategy, eos_token_ids=frozenset(), trace=options))
    assert cut.sequences == whole.sequences
    trace = trace_of(cut)
    assert trace.is_truncated
    assert len(trace.steps) == 3
    assert all(not node.candidates for node in trace.steps[2])
    assert trace.steps[1] == trace_of(whole).steps[1]
    for sequence, end in zip(cut.sequences, trace.ends, strict=True):
        path = path_to(trace, end)
        assert tuple(node.token_id for node in path) == sequence.token_ids[:2]


@pytest.mark.parametrize("strategy", [Sample(num_return_sequences=4), Beam()], ids=["n", "beam"])
def test_a_trace_holds_only_so_many_candidates(
    strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "MAX_CANDIDATES", 30)
    trace = trace_of(run(traced(strategy, eos_token_ids=frozenset())))
    assert trace.is_truncated
    num_candidates = sum(len(node.candidates) for node in nodes_of(trace).values())
    assert 30 <= num_candidates < 45


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentBeam(Beam):
    """Beam search as another package would write it: it tells nothing."""

    name: ClassVar[str] = "silent_beam"

    def start(self, task: Task) -> "SilentDecoder":
        return SilentDecoder(self, task)


class SilentDecoder(BeamDecoder):
    def advance(
        self, rows: Sequence[DecodingRow], found: Sequence[Sequence[Candidate]]
    ) -> Decision:
        decision = BeamDecoder.advance(self, rows, found)
        live = tuple(replace(child, score=None) for child in decision.live)
        return replace(decision, live=live, verdicts=None)


def test_a_strategy_that_tells_nothing_still_gets_a_tree() -> None:
    silent = run(traced(SilentBeam(num_beams=4, num_return_sequences=3)))
    told = run(traced(Beam(num_beams=4, num_return_sequences=3)))
    ours, theirs = trace_of(silent), trace_of(told)
    for sequence, end, other in zip(silent.sequences, ours.ends, theirs.ends, strict=True):
        path, expected = path_to(ours, end), path_to(theirs, other)
        assert tuple(node.token_id for node in path) == sequence.token_ids
        assert [node.score for node in path[:-1]] == pytest.approx(
            [node.score for node in expected[:-1]], abs=1e-5
        )
        assert path[-1].final_score == sequence.score


def test_any_strategy_can_be_traced() -> None:
    engine = build_engine(HashRunner())
    assert not engine.add(traced(Shuffle(width=5)))
    while engine.has_work:
        events = engine.step()
    assert isinstance(events[-1], RequestFinished)
    trace = trace_of(events[-1])
    nodes = nodes_of(trace)
    assert len(trace.steps) >= 8
    assert all(node.parent in nodes for node in list(nodes.values())[1:])


def test_rows_that_contrastive_search_passes_over_end_nothing() -> None:
    finished = run(traced(Contrastive(top_k=3), max_new_tokens=3))
    trace = trace_of(finished)
    assert [len(step) for step in trace.steps] == [1, 3, 3, 3]
    ended = [node for step in trace.steps for node in step if node.finish_reason is not None]
    assert [node.id for node in ended] == list(trace.ends)
