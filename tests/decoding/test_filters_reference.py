"""Filters that `transformers` lacks, against scalar code written from their definitions.

The definitions are those of llama.cpp's samplers: candidates sorted by score, plain loops.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.ask import Draw
from decoding.base import Task
from decoding.chooser import RowAsk, find_candidates
from decoding.mirostat import Mirostat
from decoding.params import Processing
from decoding.processors.chain import Filtering, apply_filters
from tests.decoding.rows import FixedRow, random_logits

VOCAB_SIZE = 300
SPREADS = (0.3, 1.0, 3.0, 10.0)


def probabilities(scores: Sequence[float]) -> list[float]:
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    return [weight / sum(weights) for weight in weights]


def kept_by(processing: Processing, scores: Sequence[float], seed: int = 0) -> set[int]:
    """Tokens that are left of one row."""
    left = apply_filters(torch.tensor([scores]), [Filtering(processing, (seed, 0, 0))])
    return {token_id for token_id, score in enumerate(left[0].tolist()) if score > -math.inf}


def rows(count: int) -> list[list[float]]:
    return [
        row
        for at, spread in enumerate(SPREADS)
        for row in random_logits(count, VOCAB_SIZE, seed=at, spread=spread).tolist()
    ]


@pytest.mark.parametrize("num_sigmas", [0.1, 1.0, 2.5])
def test_top_n_sigma_keeps_what_is_near_the_largest_logit(num_sigmas: float) -> None:
    for scores in rows(10):
        mean = sum(scores) / len(scores)
        sigma = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
        floor = max(scores) - num_sigmas * sigma
        expected = {token_id for token_id, score in enumerate(scores) if score >= floor}
        assert kept_by(Processing(top_n_sigma=num_sigmas), scores) == expected


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_top_n_sigma_keeps_the_same_at_any_temperature(temperature: float) -> None:
    for scores in rows(10):
        hot = Processing(top_n_sigma=1.0, temperature=temperature)
        assert kept_by(hot, scores) == kept_by(Processing(top_n_sigma=1.0), scores)


@pytest.mark.parametrize("threshold", [0.001, 0.02, 0.1, 0.6])
def test_xtc_excludes_all_top_choices_but_the_least(threshold: float) -> None:
    num_excluded = 0
    for scores in rows(10):
        chances = probabilities(scores)
        best_first = sorted(range(len(scores)), key=lambda at: -chances[at])
        top = [token_id for token_id in best_first if chances[token_id] >= threshold]
        excluded = set(top[:-1])
        num_excluded += len(excluded)
        processing = Processing(xtc_probability=1.0, xtc_threshold=threshold)
        assert kept_by(processing, scores) == set(range(len(scores))) - excluded
    assert (num_excluded > 0) == (threshold < 0.5), "no two tokens hold more than half each"


def test_xtc_leaves_one_of_equal_top_choices() -> None:
    scores = [2.0, 2.0, 2.0, -9.0]
    kept = kept_by(Processing(xtc_probability=1.0, xtc_threshold=0.2), scores)
    assert len(kept) == 2
    assert 3 in kept


def test_xtc_falls_as_often_as_it_is_asked_to_and_by_the_seed_alone() -> None:
    scores = [2.0, 1.9, -1.0]
    processing = Processing(xtc_probability=0.3, xtc_threshold=0.2)
    fell = [kept_by(processing, scores, seed) != {0, 1, 2} for seed in range(2000)]
    assert sum(fell) / len(fell) == pytest.approx(0.3, abs=0.04)
    assert fell == [kept_by(processing, scores, seed) != {0, 1, 2} for seed in range(2000)]


@pytest.mark.parametrize("half_range", [0.2, 0.5, 2.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
def test_a_dynamic_temperature_follows_the_entropy(half_range: float, exponent: float) -> None:
    processing = Processing(temperature=0.9, dynatemp_range=half_range, dynatemp_exponent=exponent)
    for scores in rows(5):
        entropy = -sum(p * math.log(p) for p in probabilities(scores) if p > 0)
        share = entropy / math.log(len(scores))
        lowest, highest = max(0.0, 0.9 - half_range), 0.9 + half_range
        temperature = max(0.01, lowest + (highest - lowest) * share**exponent)
        ours = apply_filters(torch.tensor([scores]), [Filtering(processing)])[0].tolist()
        assert ours == pytest.approx([score / temperature for score in scores], rel=1e-3)


class ScalarMirostat:
    """One sequence of llama.cpp's mirostat, 1 or 2: which tokens are left, and how mu moves."""

    def __init__(self, strategy: Mirostat) -> None:
        self._strategy = strategy
        self._mu = 2 * strategy.mirostat_tau

    def left(self, scores: Sequence[float]) -> list[int]:
        chances = probabilities(scores)
        best_first = sorted(range(len(scores)), key=lambda at: -chances[at])
        if self._strategy.mirostat == 2:
            num_kept = sum(-math.log2(chances[each]) <= self._mu for each in best_first)
        else:
            num_kept = self._num_kept([chances[each] for each in best_first])
        return best_first[: max(1, num_kept)]

    def _num_kept(self, best_first: Sequence[float]) -> int:
        steps = [math.log((at + 2) / (at + 1)) for at in range(99)]
        falls = [math.log(best_first[at] / best_first[at + 1]) for at in range(99)]
        exponent = sum(map(math.prod, zip(steps, falls, strict=True))) / sum(s * s for s in steps)
        epsilon = exponent - 1
        size = (epsilon * 2**self._mu) / (1 - len(best_first) ** -epsilon)
        return int(size ** (1 / exponent))

    def accept(self, scores: Sequence[float], token_id: int) -> None:
        left = self.left(scores)
        assert token_id in left
        surprise = -math.log2(probabilities([scores[each] for each in left])[left.index(token_id)])
        self._mu -= self._strategy.mirostat_eta * (surprise - self._strategy.mirostat_tau)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_mirostat_keeps_and_learns_what_llama_cpp_does(version: int, tau: float) -> None:
    strategy = Mirostat(
        mirostat=version, mirostat_tau=tau, mirostat_eta=0.3, num_return_sequences=2
    )
    decoder = strategy.start(Task(max_new_tokens=30, seed=5))
    references: dict[int, ScalarMirostat] = {at: ScalarMirostat(strategy) for at in range(2)}
    live = [FixedRow()]
    num_kept = set()
    for position in range(30):
        logits = random_logits(len(live), VOCAB_SIZE, seed=position, spread=2.0)
        asks = decoder.ask * (len(live) // len(decoder.ask))
        asked = [RowAsk(row, ask) for row, ask in zip(live, asks, strict=True)]
        found = find_candidates(logits, asked)
        for row, scores, candidates in zip(live, logits.tolist(), found, strict=True):
            for offset, candidate in enumerate(candidates):
                reference = references[row.index + offset]
                num_kept.add(len(reference.left(scores)))
                reference.accept(scores, candidate.token_id)
        decision = decoder.advance(live, found)
        live = [
            FixedRow(
                index=child.index,
                generated_ids=(*live[child.parent].generated_ids, child.token_id),
                logprobs=(*live[child.parent].logprobs, child.logprob),
            )
            for child in decision.live
        ]
    assert not live
    assert len(num_kept) > 2, "the bound never moved"


def test_a_drawn_candidate_is_scored_by_its_share_of_what_was_left() -> None:
    scores = random_logits(1, VOCAB_SIZE)
    for processing in (Processing(top_k=5), Processing(min_p=0.05), Processing(temperature=2.0)):
        found = find_candidates(scores, [RowAsk(FixedRow(), Draw(processing, seed=1, count=50))])
        kept = sorted(kept_by(processing, scores[0].tolist()))
        temperature = processing.temperature
        chances = probabilities([scores[0, each].item() / temperature for each in kept])
        for candidate in found[0]:
            expected = math.log(chances[kept.index(candidate.token_id)])
            assert candidate.score == pytest.approx(expected, abs=1e-4)


ORDERS = st.permutations(["temperature", "top_k", "top_p", "min_p", "typical_p", "top_n_sigma"])
FAMILY = Processing(
    temperature=1.7, top_k=40, top_p=0.8, min_p=0.03, typical_p=0.7, top_n_sigma=1.5
)


@settings(max_examples=50)
@given(order=ORDERS, length=st.integers(0, 6), seed=st.integers(0, 99))
def test_filters_run_in_the_order_that_is_asked_for(
    order: list[str], length: int, seed: int
) -> None:
    """One after the other by hand gives what `samplers` gives; those left out do not run."""
    samplers = tuple(order[:length])
    scores = random_logits(3, VOCAB_SIZE, seed=seed)
    together = apply_filters(scores, [Filtering(replace(FAMILY, samplers=samplers))] * 3)
    expected = scores
    for name in samplers:
        only = Processing(**{name: getattr(FAMILY, name)})
        expected = apply_filters(expected, [Filtering(only)] * 3)
    assert together.equal(expected)


def test_the_order_matters() -> None:
    scores = random_logits(1, VOCAB_SIZE).tolist()[0]
    hot = replace(FAMILY, samplers=("temperature", "top_p"))
    cold = replace(FAMILY, samplers=("top_p", "temperature"))
    assert len(kept_by(hot, scores)) > len(kept_by(cold, scores))
