"""One bad request never harms another: it fails by itself, and its neighbours get their tokens."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from decoding.ask import Ask, Best, Draw, MostLikely
from decoding.base import Continuation, Decision, Emission, FinishReason, Hypothesis
from decoding.beam import Beam
from decoding.considered import Outcome, Verdict
from decoding.errors import InvalidParameter
from decoding.params import Processing
from decoding.sample import Sample
from engine.errors import ConstraintNotMet, DecodingFailed
from engine.messages import GenerationRequest
from tests.engine.faulty import Faulty
from tests.engine.hash_runner import VOCAB_SIZE, HashRunner, build_engine, build_request
from tests.oracle.engine_run import EngineRun, run_alone

NEIGHBOURS = (
    build_request("greedy", (1, 2, 3), max_new_tokens=8),
    build_request("sample", (4, 5), Sample(num_return_sequences=3), max_new_tokens=6, seed=3),
    build_request("beam", (6, 7, 8, 9), Beam(num_beams=3), max_new_tokens=7),
)
PLAIN = Processing()
HYPOTHESIS = Hypothesis(token_ids=(1,), logprobs=(-1.0,), finish_reason=FinishReason.EOS)


def _assert_fails_alone(
    bad: GenerationRequest, spoils: Callable[[object], bool] | None = None
) -> DecodingFailed:
    """Run `bad` among its neighbours; its error."""
    runner = HashRunner()
    if spoils is not None:
        runner.spoils = spoils
    run = EngineRun(build_engine(runner))
    run.submit(*NEIGHBOURS[:2], bad, *NEIGHBOURS[2:])
    run.finish()
    assert run.failed.keys() == {bad.request_id}
    for neighbour in NEIGHBOURS:
        alone = run_alone(build_engine(HashRunner()), neighbour)
        assert run.tokens(neighbour.request_id) == alone.tokens(neighbour.request_id)
    assert run.engine.stats().num_failures == 1
    assert run.engine.stats().num_cached_tokens == 0
    error = run.failed[bad.request_id].error
    assert isinstance(error, DecodingFailed)
    return error


def _raise(*_: object) -> bool:
    raise ZeroDivisionError


def _always(answer: object) -> Callable[..., object]:
    return lambda *_: answer


def _emission(index: int = 0, token_ids: tuple[int, ...] | None = (1,)) -> Emission:
    return Emission(index=index, token_ids=token_ids, logprobs=(-1.0,))


def _verdict(parent: int) -> Verdict:
    return Verdict(parent=parent, token_id=1, outcome=Outcome.FINISHED)


def _continue(*parents: int, token_id: float = 1, index: int = 0) -> Decision:
    return Decision(
        live=tuple(
            Continuation(parent=parent, token_id=token_id, logprob=-1.0, index=index)
            for parent in parents
        )
    )


class _AskThatFailsWhenReadAgain:
    """An `ask` that raises the second time it is read after the first step."""

    def __init__(self) -> None:
        self._num_reads = 0

    def __call__(self, ask: Ask, step: int) -> Ask:
        self._num_reads += step > 0
        return _raise() if self._num_reads == 2 else ask


@pytest.mark.parametrize(
    "strategy",
    [
        Faulty(starts=False),
        Faulty(change_ask=_raise),
        Faulty(change_ask=lambda ask, step: ask if step < 2 else _raise()),
        Faulty(change_decision=_raise),
        Faulty(change_decision=lambda decision, step: decision if step < 3 else _raise()),
    ],
    ids=["start", "first ask", "later ask", "first advance", "later advance"],
)
def test_a_strategy_that_raises_ends_its_own_request_only(strategy: Faulty) -> None:
    error = _assert_fails_alone(build_request("bad", strategy=strategy))
    assert "faulty" in str(error)
    assert "ZeroDivisionError" in str(error)


def _refuse(*_: object) -> Ask:
    raise InvalidParameter("words", "cannot be had; leave one out")


@pytest.mark.parametrize(
    "strategy",
    [
        Faulty(change_ask=_refuse),
        Faulty(change_decision=lambda decision, step: decision if step < 3 else _refuse()),
    ],
    ids=["start", "advance"],
)
def test_a_parameter_that_turns_out_impossible_is_refused_by_name(strategy: Faulty) -> None:
    error = _assert_fails_alone(build_request("bad", strategy=strategy))
    assert isinstance(error, ConstraintNotMet)
    assert error.field == "words"
    assert str(error) == "cannot be had; leave one out"


@pytest.mark.parametrize("strategy", [None, Sample(num_return_sequences=2), Beam()])
def test_a_stop_check_that_raises_ends_its_own_request_only(strategy: object) -> None:
    def stop(generated_ids: tuple[int, ...]) -> bool:
        return _raise() if len(generated_ids) == 3 else False

    _assert_fails_alone(build_request("bad", strategy=strategy, stop=stop))


@pytest.mark.parametrize("strategy", [None, Sample(num_return_sequences=2), Beam()])
@pytest.mark.parametrize("num_spoilt_from", [3, 5])
def test_logits_that_are_not_finite_end_their_own_request_only(
    strategy: object, num_spoilt_from: int
) -> None:
    error = _assert_fails_alone(
        build_request("bad", (20, 21, 22), strategy),
        lambda row: row.sequence.prompt_ids[0] == 20 and row.end >= num_spoilt_from,
    )
    assert "not finite" in str(error)


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (None, "the decision is None"),
        (_continue(0, 0), "too many rows"),
        (_continue(1), "row 1 does not exist"),
        (_continue(-1), "row -1 does not exist"),
        (_continue(0, token_id=VOCAB_SIZE), f"token {VOCAB_SIZE} does not exist"),
        (_continue(0, token_id=-1), "token -1 does not exist"),
        (_continue(0, token_id=1.0), "token 1.0"),
        (_continue(0, index=-1), "index -1"),
        (_continue(0, index=2**64), f"index {2**64}"),
        (Decision(live=("row",)), "'row' is no continuation"),
        (Decision(live=None), ""),
        (Decision(), "too few or many sequences"),
        (Decision(results=(HYPOTHESIS, HYPOTHESIS)), "too few or many sequences"),
        (Decision(results=("answer",)), "'answer' is no hypothesis"),
        (Decision(results=(replace(HYPOTHESIS, token_ids=("a",)),)), "holds no tokens"),
        (Decision(live=(replace(_continue(0).live[0], score="best"),)), "the score is 'best'"),
        (replace(_continue(0), verdicts=("late",)), "'late' is no verdict"),
        (replace(_continue(0), verdicts=(_verdict(parent=1),)), "row 1 does not exist"),
        (replace(_continue(0), emissions=None), ""),
        (replace(_continue(0), emissions=("token",)), "'token' is no emission"),
        (replace(_continue(0), emissions=(_emission(index=1),)), "index 1"),
        (replace(_continue(0), emissions=(_emission(token_ids=None),)), ""),
    ],
)
def test_a_decision_that_cannot_be_carried_out_ends_its_own_request_only(
    decision: Decision, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = _assert_fails_alone(
        build_request("bad", strategy=Faulty(change_decision=_always(decision)))
    )
    assert "faulty" in str(error)
    assert reason in caplog.text


@pytest.mark.parametrize(
    "build_ask",
    [
        _always(None),
        _always("the best"),
        _always(PLAIN),
        lambda: Draw(PLAIN, seed=-1),
        lambda: Draw(PLAIN, seed=2**64),
        lambda: Draw(PLAIN, seed=0, count=0),
        lambda: Best(None, 1),
        lambda: Best(Processing(top_p=0.0), 1),
        lambda: Best(PLAIN, 1, also=(VOCAB_SIZE,)),
        lambda: Best(PLAIN, 1, also=(3, -1)),
        lambda: Best(PLAIN, 1, also=(1.5,)),
        lambda: (Best(PLAIN, 1, also=(VOCAB_SIZE,)),),
    ],
)
@pytest.mark.parametrize("from_step", [0, 2])
def test_an_ask_that_cannot_be_answered_ends_its_own_request_only(
    build_ask: Callable[[], Ask], from_step: int
) -> None:
    strategy = Faulty(change_ask=lambda good, step: good if step < from_step else build_ask())
    _assert_fails_alone(build_request("bad", strategy=strategy))


def test_an_ask_that_raises_only_when_read_again_ends_its_own_request_only() -> None:
    strategy = Faulty(change_ask=_AskThatFailsWhenReadAgain())
    _assert_fails_alone(build_request("bad", strategy=strategy))


@pytest.mark.parametrize("from_step", [0, 2])
@pytest.mark.parametrize(
    "ask",
    [
        Draw(Processing(temperature=1e-40), seed=0),
        MostLikely(Processing(temperature=1e-40)),
    ],
)
def test_processing_that_makes_scores_infinite_ends_its_own_request_only(
    ask: Ask, from_step: int
) -> None:
    strategy = Faulty(change_ask=lambda good, step: good if step < from_step else ask)
    error = _assert_fails_alone(build_request("bad", strategy=strategy))
    assert "not finite" in str(error)
