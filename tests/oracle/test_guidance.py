"""Guided requests against `generate` with `guidance_scale` and negative prompts, in one batch."""

from dataclasses import replace

import pytest
import torch

from decoding.beam import Beam
from decoding.greedy import Greedy
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.messages import NegativePrompt
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import run_alone, run_staggered
from tests.oracle.exam import served
from tests.oracle.serving import build_engine
from tests.oracle.workload import PLAIN, build_requests

NEGATIVES = ((40, 41, 42, 43, 44), (9,), tuple(range(60, 80)))
STRATEGIES = (Greedy(), Greedy(), Beam(num_beams=3), Greedy(), Beam(num_beams=2), Greedy())


@pytest.fixture(scope="module")
def model():
    return build_model(*served("llama"))


def guided(strategies, *, scale=1.7):
    requests = build_requests(strategies, frozenset({5}), seed=6, max_new_tokens=12)
    return [
        replace(
            request,
            adjustments=PLAIN,
            guidance=NegativePrompt(prompt_ids=NEGATIVES[at % 3], scale=scale + at % 2),
        )
        for at, request in enumerate(requests)
    ]


def expected_tokens(model, request):
    prompt = torch.tensor([request.prompt_ids])
    negative = torch.tensor([request.guidance.prompt_ids])
    num_beams = request.strategy.num_rows
    answer = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        negative_prompt_ids=negative.expand(num_beams, -1),
        negative_prompt_attention_mask=torch.ones_like(negative).expand(num_beams, -1),
        guidance_scale=request.guidance.scale,
        num_beams=num_beams,
        max_new_tokens=request.max_new_tokens,
        eos_token_id=sorted(request.eos_token_ids),
        pad_token_id=0,
        do_sample=False,
    )
    ids = answer[0, prompt.shape[1] :].tolist()
    return tuple(ids[: ids.index(5) + 1] if 5 in ids else ids)


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(),
        EngineConfig(max_rows=8, max_step_tokens=20, block_size=4, kv_cache_bytes=2**18),
    ],
    ids=["roomy", "tight"],
)
def test_guided_greedy_gives_the_tokens_of_transformers(model, config) -> None:
    requests = [each for each in guided(STRATEGIES) if each.strategy == Greedy()]
    others = build_requests([Sample(num_return_sequences=2), Beam(num_beams=2)], frozenset())
    others = [replace(each, request_id=f"other {each.request_id}") for each in others]
    engine = build_engine(*served("llama"), config)
    run = run_staggered(engine, [*requests[:2], *others, *requests[2:]])
    for request in requests:
        assert run.tokens(request.request_id) == (expected_tokens(model, request),)


@pytest.mark.parametrize("strategy", [Beam(num_beams=3), Sample(num_return_sequences=3)], ids=str)
def test_guided_rows_that_fork_are_the_same_alone_and_among_others(strategy) -> None:
    requests = guided([strategy] * 4)
    engine = build_engine(*served("llama"), EngineConfig(max_rows=12, block_size=4))
    run = run_staggered(engine, requests)
    for request in requests:
        alone = run_alone(build_engine(*served("llama"), EngineConfig()), request)
        assert run.tokens(request.request_id) == alone.tokens(request.request_id)
        plain = run_alone(
            build_engine(*served("llama"), EngineConfig()), replace(request, guidance=None)
        )
        assert run.tokens(request.request_id) != plain.tokens(request.request_id)


def test_guided_beams_score_by_the_guided_log_probabilities(model) -> None:
    """Each step scores negative + scale * (positive - negative), as the processor has it."""
    (request,) = guided([Beam(num_beams=2)])
    engine = build_engine(*served("llama"), EngineConfig())
    (best,) = run_alone(engine, request).finished[request.request_id].sequences
    total = 0.0
    with torch.inference_mode():
        for at, token_id in enumerate(best.token_ids):
            logprobs = [
                model(torch.tensor([[*prompt, *best.token_ids[:at]]])).logits[0, -1].log_softmax(0)
                for prompt in (request.prompt_ids, request.guidance.prompt_ids)
            ]
            positive, negative = (each[token_id].item() for each in logprobs)
            total += negative + request.guidance.scale * (positive - negative)
            assert best.logprobs[at] == pytest.approx(positive, abs=1e-3), "under the model itself"
    assert best.score == pytest.approx(total / len(best.token_ids), abs=1e-3)
