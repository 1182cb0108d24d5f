"""Sampling follows the reference distribution, and a seed's draws depend on nothing else.

The statistical tests compare counts of many seeded draws with the exact distribution, made of the
model's own logits and the processors of `transformers`. Seeds are fixed, so they pass or fail
always; the level says how unlikely a false alarm was when the seeds were chosen.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from transformers import PreTrainedModel

from decoding.adjustments import Adjustments
from decoding.base import Strategy
from decoding.sample import Sample
from decoding.top_k import TopKSampling
from decoding.top_p import TopPSampling
from engine.config import EngineConfig
from engine.engine import Engine
from engine.messages import GenerationRequest
from tests.oracle.architectures import VOCAB_SIZE, build_model
from tests.oracle.distribution import next_token_distribution
from tests.oracle.engine_run import EngineRun, run_alone, run_staggered
from tests.oracle.exam import served
from tests.oracle.serving import build_engine
from tests.oracle.workload import BEAMS, GREEDY, PLAIN, SAMPLES, build_requests

FALSE_ALARM = 1e-6
SAMPLES_A_REQUEST = 200
NUM_SEEDS = 60  # so 12,000 draws a test
NUM_LONE_DRAWS = 4000  # one for each of as many seeds
WIDE = EngineConfig(max_rows=1000, max_step_tokens=1000)
# Its own tokens hold a sixth of what follows, the likeliest token as much, and 14 tokens matter.
PROMPT_IDS = (48, 217, 117, 72, 150, 14, 125, 51, 239, 28)

PENALISED = Adjustments(repetition_penalty=1.8)
DRAWN: Sequence[tuple[Strategy, Adjustments]] = (
    (Sample(), PLAIN),
    (Sample(top_k=0, top_p=1.0), PLAIN),
    (Sample(temperature=0.4, top_k=0, top_p=1.0), PLAIN),
    (Sample(temperature=2.5, top_k=30, top_p=1.0), PLAIN),
    (Sample(top_k=0, top_p=0.6), PLAIN),
    (Sample(top_k=0, top_p=1.0, min_p=0.1), PLAIN),
    (Sample(top_k=0, top_p=1.0, typical_p=0.7), PLAIN),
    (Sample(top_k=0, top_p=1.0, eta_cutoff=0.02), PLAIN),
    (Sample(top_k=0, top_p=1.0), PENALISED),
    (Sample(temperature=1.5, top_k=25, top_p=0.9, min_p=0.02), PENALISED),
    (TopKSampling(top_k=5, temperature=1.3), PLAIN),
    (TopPSampling(top_p=0.8, temperature=0.9), PENALISED),
)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build_model(*served("llama"))


@pytest.fixture(scope="module")
def wide_engine() -> Engine:
    return build_engine(*served("llama"), WIDE)


def draw(
    engine: Engine,
    strategy: Strategy,
    adjustments: Adjustments,
    *,
    num_tokens: int,
    samples_a_request: int,
) -> Counter[tuple[int, ...]]:
    """Count what many seeds draw after the prompt, `num_tokens` tokens each."""
    num_seeds = NUM_SEEDS if samples_a_request > 1 else NUM_LONE_DRAWS
    run = EngineRun(engine)
    for seed in range(num_seeds):
        run.submit(
            GenerationRequest(
                request_id=str(seed),
                prompt_ids=PROMPT_IDS,
                strategy=replace(strategy, num_return_sequences=samples_a_request),
                max_new_tokens=num_tokens,
                seed=seed,
                adjustments=adjustments,
            )
        )
    run.finish()
    return Counter(ids for seed in range(num_seeds) for ids in run.tokens(str(seed)))


def chance(counts: Counter[tuple[int, ...]], expected: Mapping[tuple[int, ...], float]) -> float:
    """How likely counts as far from the expected ones are; outcomes too rare to test are pooled."""
    assert counts.keys() <= {outcome for outcome, p in expected.items() if p > 0}
    total = counts.total()
    common = [outcome for outcome, p in expected.items() if p * total >= 5]
    observed_counts = [counts[outcome] for outcome in common]
    expected_counts = [expected[outcome] * total for outcome in common]
    rest = total - sum(expected_counts)
    if rest >= 5:
        observed_counts.append(total - sum(observed_counts))
        expected_counts.append(rest)
    scale = sum(observed_counts) / sum(expected_counts)
    return float(chisquare(observed_counts, [count * scale for count in expected_counts]).pvalue)


def one_token(
    model: PreTrainedModel, strategy: Strategy, adjustments: Adjustments
) -> dict[tuple[int, ...], float]:
    probabilities = next_token_distribution(model, PROMPT_IDS, strategy, adjustments).tolist()
    return {(token_id,): p for token_id, p in enumerate(probabilities) if p > 0}


def two_tokens(
    model: PreTrainedModel, strategy: Strategy, adjustments: Adjustments
) -> dict[tuple[int, ...], float]:
    return {
        (*first, second): p * q
        for first, p in one_token(model, strategy, adjustments).items()
        for second, q in enumerate(
            next_token_distribution(model, (*PROMPT_IDS, *first), strategy, adjustments).tolist()
        )
        if q > 0
    }


@pytest.mark.parametrize(("strategy", "adjustments"), DRAWN, ids=str)
def test_drawn_tokens_follow_the_distribution_of_transformers(
    model: PreTrainedModel, wide_engine: Engine, strategy: Strategy, adjustments: Adjustments
) -> None:
    counts = draw(
        wide_engine, strategy, adjustments, num_tokens=1, samples_a_request=SAMPLES_A_REQUEST
    )
    assert chance(counts, one_token(model, strategy, adjustments)) > FALSE_ALARM


@pytest.mark.parametrize(("strategy", "adjustments"), [DRAWN[1], DRAWN[-1]], ids=str)
def test_one_draw_a_seed_follows_the_distribution_too(
    model: PreTrainedModel, wide_engine: Engine, strategy: Strategy, adjustments: Adjustments
) -> None:
    counts = draw(wide_engine, strategy, adjustments, num_tokens=1, samples_a_request=1)
    assert chance(counts, one_token(model, strategy, adjustments)) > FALSE_ALARM


@pytest.mark.parametrize(
    ("strategy", "adjustments"),
    [(TopKSampling(top_k=4), PLAIN), (Sample(top_k=6, temperature=2.0, top_p=1.0), PENALISED)],
    ids=str,
)
def test_pairs_of_drawn_tokens_follow_the_joint_distribution(
    model: PreTrainedModel, wide_engine: Engine, strategy: Strategy, adjustments: Adjustments
) -> None:
    counts = draw(
        wide_engine, strategy, adjustments, num_tokens=2, samples_a_request=SAMPLES_A_REQUEST
    )
    assert chance(counts, two_tokens(model, strategy, adjustments)) > FALSE_ALARM


@pytest.mark.parametrize(
    ("wrong", "adjustments"),
    [
        (Sample(top_k=0, top_p=1.0, temperature=1.1), PLAIN),
        (Sample(top_k=0, top_p=1.0), Adjustments(repetition_penalty=1.1)),
    ],
    ids=str,
)
def test_the_statistical_test_would_notice_a_parameter_a_tenth_off(
    model: PreTrainedModel, wide_engine: Engine, wrong: Strategy, adjustments: Adjustments
) -> None:
    strategy = Sample(top_k=0, top_p=1.0)
    counts = draw(wide_engine, strategy, PLAIN, num_tokens=1, samples_a_request=SAMPLES_A_REQUEST)
    assert chance(counts, one_token(model, wrong, adjustments)) < FALSE_ALARM


@pytest.fixture(scope="module", params=served("llama", "qwen3-moe", "gemma-3", "gpt-neox"), ids=str)
def engines(request: pytest.FixtureRequest) -> Callable[[EngineConfig], Engine]:
    return lambda config: build_engine(request.param, config)


@pytest.mark.parametrize(
    "config",
    [EngineConfig(), EngineConfig(max_rows=8, max_step_tokens=8, block_size=4)],
    ids=["roomy", "chunked"],
)
def test_a_seed_draws_the_same_alone_and_in_a_crowd(
    engines: Callable[[EngineConfig], Engine], config: EngineConfig
) -> None:
    eos_token_ids = frozenset({5, 77})
    watched = build_requests(SAMPLES * 2, eos_token_ids, seed=4)
    others = build_requests([*BEAMS, *GREEDY, *SAMPLES], eos_token_ids, seed=5)
    others = [replace(one, request_id=f"other-{one.request_id}") for one in others]
    crowd = run_staggered(
        engines(config), [*others[:15], *watched, *others[15:]], arriving_together=7
    )
    quiet = engines(EngineConfig())
    for request in watched:
        alone = run_alone(quiet, request)
        assert crowd.tokens(request.request_id) == alone.tokens(request.request_id)


def test_more_samples_of_a_seed_begin_with_the_fewer(wide_engine: Engine) -> None:
    (few,) = build_requests([Sample(num_return_sequences=3)], frozenset())
    many = replace(few, request_id="many", strategy=Sample(num_return_sequences=9))
    run = EngineRun(wide_engine)
    run.submit(many, few)
    run.finish()
    assert run.tokens("many")[:3] == run.tokens(few.request_id)
    assert len(set(run.tokens("many"))) == 9


def test_another_seed_draws_other_tokens(wide_engine: Engine) -> None:
    (request,) = build_requests([Sample(top_k=0, top_p=1.0)], frozenset(), max_new_tokens=12)
    other = replace(request, request_id="other", seed=request.seed + 1)
    run = EngineRun(wide_engine)
    run.submit(request, other)
    run.finish()
    assert run.tokens("other") != run.tokens(request.request_id)


def test_reported_log_probabilities_are_the_models_own(
    model: PreTrainedModel, wide_engine: Engine
) -> None:
    (plain,) = build_requests([Sample(temperature=0.5, top_k=9)], frozenset(), max_new_tokens=10)
    request = replace(plain, adjustments=PENALISED)
    (sequence,) = run_alone(wide_engine, request).finished[request.request_id].sequences
    token_ids = torch.tensor([[*request.prompt_ids, *sequence.token_ids]])
    with torch.inference_mode():
        logprobs = model(token_ids).logits[0, -11:-1].log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(sequence.token_ids)[:, None]).flatten().tolist()
    assert sequence.logprobs == pytest.approx(expected, abs=1e-4)
    assert max(sequence.token_ids) < VOCAB_SIZE
