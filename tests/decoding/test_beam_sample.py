"""Beam search over draws against the exact distribution of its answers, found by enumeration.

The toy model's vocabulary is so small that every outcome of every step can be followed with its
probability; many seeds must then answer as often as that says.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from decoding.ask import DrawDistinct
from decoding.base import Task
from decoding.beam_sample import BeamSample
from decoding.params import Processing
from tests.decoding.toy_search import ToyModel, build_task, search

FALSE_ALARM = 1e-6
NUM_SEEDS = 3000
PLAIN = BeamSample(num_beams=2, top_k=0, top_p=1.0)

Tokens = tuple[int, ...]
State = tuple[tuple[Tokens, ...], tuple[Tokens, ...]]  # live ones, best first, and finished ones


def _score(model: ToyModel, strategy: BeamSample, tokens: Tokens) -> float:
    """Summed log-probabilities after processing: here temperature and top-k."""
    return sum(_processed(model, strategy, tokens[:at])[tokens[at]] for at in range(len(tokens)))


def _processed(model: ToyModel, strategy: BeamSample, tokens: Tokens) -> list[float]:
    logprobs = model.logprobs(tokens)
    lowest = sorted(logprobs, reverse=True)[: strategy.top_k or None][-1]
    return [each / strategy.temperature if each >= lowest else -math.inf for each in logprobs]


def _draws(scores: Sequence[float], count: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Every ordered draw of `count` places without replacement, and its probability."""
    weights = [math.exp(score - max(scores)) for score in scores]
    for order in permutations([at for at, weight in enumerate(weights) if weight > 0], count):
        left, probability = math.fsum(weights), 1.0
        for at in order:
            probability *= weights[at] / left
            left -= weights[at]
        yield probability, order


def _step(
    model: ToyModel, strategy: BeamSample, task: Task, state: State
) -> Iterator[tuple[float, State]]:
    live, done = state
    width = strategy.num_beams
    reached = [(*tokens, token) for tokens in live for token in range(model.vocab_size)]
    scores = [_score(model, strategy, tokens) for tokens in reached]
    num_open = sum(score > -math.inf for score in scores)
    for probability, order in _draws(scores, min(num_open, 2 * width)):
        drawn = [reached[at] for at in order]
        ended = {t for t in drawn if t[-1] in task.eos_token_ids or len(t) == task.max_new_tokens}
        finished = [*done, *(tokens for tokens in drawn[:width] if tokens in ended)]
        finished.sort(key=lambda tokens: -_score(model, strategy, tokens) / len(tokens))
        going_on = [tokens for tokens in drawn if tokens not in ended]
        going_on.sort(key=lambda tokens: -_score(model, strategy, tokens))
        yield probability, (tuple(going_on[:width]), tuple(finished[:width]))


def _distribution(
    model: ToyModel, strategy: BeamSample, task: Task
) -> dict[tuple[Tokens, ...], float]:
    """The probability of every answer; `early_stopping` is "never" and the penalty 1."""
    states: dict[State, float] = {(((),), ()): 1.0}
    answers: Counter[tuple[Tokens, ...]] = Counter()
    while states:
        after: Counter[State] = Counter()
        for state, weight in states.items():
            for probability, (live, done) in _step(model, strategy, task, state):
                if live and not _is_settled(model, strategy, task, live, done):
                    after[live, done] += weight * probability
                else:
                    answers[done] += weight * probability
        states = dict(after)
    return dict(answers)


def _is_settled(
    model: ToyModel,
    strategy: BeamSample,
    task: Task,
    live: Sequence[Tokens],
    done: Sequence[Tokens],
) -> bool:
    best_possible = _score(model, strategy, live[0]) / task.max_new_tokens
    worst = -math.inf
    if len(done) == strategy.num_beams:
        worst = _score(model, strategy, done[-1]) / len(done[-1])
    return best_possible <= worst


@pytest.mark.parametrize(
    "strategy",
    [
        BeamSample(num_beams=2, top_k=0, top_p=1.0),
        BeamSample(num_beams=2, top_k=0, top_p=1.0, temperature=2.0),
        BeamSample(num_beams=2, top_k=2, top_p=1.0),
        BeamSample(num_beams=1, top_k=0, top_p=1.0),
    ],
    ids=["plain", "hot", "truncated", "one beam"],
)
def test_answers_are_as_likely_as_enumeration_says(strategy: BeamSample) -> None:
    strategy = BeamSample(
        num_beams=strategy.num_beams,
        num_return_sequences=strategy.num_beams,
        early_stopping="never",
        temperature=strategy.temperature,
        top_k=strategy.top_k,
        top_p=1.0,
    )
    model = ToyModel(8, vocab_size=3, spread=1.0)
    expected = _distribution(model, strategy, build_task(3, 0))
    assert math.fsum(expected.values()) == pytest.approx(1.0)
    counts = Counter(
        tuple(
            each.token_ids for each in search(model, strategy, build_task(3, 0, seed=seed)).results
        )
        for seed in range(NUM_SEEDS)
    )
    assert counts.keys() <= expected.keys()
    assert _chance(counts, expected) > FALSE_ALARM


def _chance(
    counts: Counter[tuple[Tokens, ...]], expected: dict[tuple[Tokens, ...], float]
) -> float:
    """Of counts at least as far off; answers expected less than five times are counted as one."""
    total = counts.total()
    common = [answer for answer, share in expected.items() if share * total >= 5]
    assert len(common) > 1
    found = [counts[answer] for answer in common]
    hoped = [expected[answer] * total for answer in common]
    if len(common) < len(expected):
        found.append(total - sum(found))
        hoped.append(total - sum(hoped))
    scale = sum(found) / sum(hoped)
    return float(chisquare(found, [each * scale for each in hoped]).pvalue)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), num_beams=st.integers(1, 4), num_returned=st.integers(1, 4))
def test_what_was_streamed_is_never_taken_back(
    seed: int, num_beams: int, num_returned: int
) -> None:
    strategy = BeamSample(
        num_beams=num_beams, num_return_sequences=min(num_beams, num_returned), temperature=2.0
    )
    searched = search(ToyModel(seed), strategy, build_task(8, 0, seed=seed))
    for index, result in enumerate(searched.results):
        assert searched.streamed(index) == result.token_ids
        assert sum(result.logprobs) == pytest.approx(
            ToyModel(seed).logprob(result.token_ids), abs=1e-5
        ), "under the model, whatever the temperature"


def test_a_seed_gives_one_answer_and_seeds_give_several() -> None:
    model = ToyModel(3)
    answers = [
        search(model, PLAIN, build_task(6, seed=seed)).results[0].token_ids
        for seed in (0, 0, *range(1, 9))
    ]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 3


def test_truncation_to_one_token_leaves_one_sequence_however_many_are_asked_for() -> None:
    model = ToyModel(3)
    strategy = BeamSample(num_beams=3, num_return_sequences=3, top_k=1)
    (result,) = search(model, strategy, build_task(5)).results
    assert (
        result.token_ids
        == search(model, BeamSample(num_beams=1, top_k=1), build_task(5)).results[0].token_ids
    )


def test_the_ask_carries_the_processing_and_the_seed() -> None:
    strategy = BeamSample(num_beams=3, temperature=0.7, top_k=5, top_p=0.8, min_p=0.1)
    processing = Processing(temperature=0.7, top_k=5, top_p=0.8, min_p=0.1)
    assert strategy.start(build_task(5, 1, 2, seed=9)).ask == DrawDistinct(processing, 9, count=9)
