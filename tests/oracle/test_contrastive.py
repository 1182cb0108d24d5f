"""Contrastive search against a plain loop over the model, written from Su et al. 2022.

`transformers` had the method until it moved out of the library; the reference is the definition:
each candidate is read by itself, without a cache, and compared with every token before it.
"""

from dataclasses import replace

import pytest
import torch

from decoding.beam import Beam
from decoding.contrastive import Contrastive
from decoding.sample import Sample
from engine.config import EngineConfig
from tests.oracle.architectures import build_model
from tests.oracle.engine_run import run_alone, run_staggered
from tests.oracle.exam import served
from tests.oracle.serving import build_engine
from tests.oracle.workload import PLAIN, build_requests

ARCHITECTURES = ("llama", "gpt-2", "gemma-3", "mixtral")
EOS = 5
STRATEGIES = (
    Contrastive(),
    Contrastive(top_k=2, penalty_alpha=0.9),
    Contrastive(top_k=6, penalty_alpha=0.3),
    Contrastive(penalty_alpha=0.0),
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request):
    return request.param


def requests_of(strategies, *, max_new_tokens=10):
    requests = build_requests(strategies, frozenset({EOS}), seed=3, max_new_tokens=max_new_tokens)
    return [replace(request, adjustments=PLAIN) for request in requests]


@torch.inference_mode()
def expected_tokens(model, request):
    """One token after the other, each candidate read with the whole text before it."""
    strategy, ids = request.strategy, list(request.prompt_ids)
    for _ in range(request.max_new_tokens):
        said = model(torch.tensor([ids]), output_hidden_states=True)
        chances = torch.softmax(said.logits[0, -1].double(), dim=0)
        best = chances.topk(strategy.top_k)
        worths = []
        for chance, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            read = model(torch.tensor([[*ids, token]]), output_hidden_states=True)
            states = read.hidden_states[-1][0].double()
            cosines = torch.cosine_similarity(states[:-1], states[-1:], dim=1)
            alpha = strategy.penalty_alpha
            worths.append((1 - alpha) * chance - alpha * float(cosines.max()))
        ids.append(int(best.indices[worths.index(max(worths))]))
        if ids[-1] == EOS:
            break
    return tuple(ids[len(request.prompt_ids) :])


@pytest.mark.parametrize(
    "config",
    [
        EngineConfig(),
        EngineConfig(max_rows=8, max_step_tokens=20, block_size=4, kv_cache_bytes=2**18),
    ],
    ids=["roomy", "tight"],
)
def test_the_tokens_are_those_of_the_definition(architecture, config):
    model = build_model(*served(architecture))
    requests = requests_of(STRATEGIES)
    others = build_requests([Sample(num_return_sequences=2), Beam(num_beams=2)], frozenset())
    others = [replace(each, request_id=f"other {each.request_id}") for each in others]
    engine = build_engine(*served(architecture), config)
    run = run_staggered(engine, [*requests[:2], *others, *requests[2:]])
    for request in requests:
        assert run.tokens(request.request_id) == (expected_tokens(model, request),)


def test_without_a_penalty_it_is_greedy():
    model = build_model(*served("llama"))
    (request,) = requests_of([Contrastive(penalty_alpha=0.0)])
    expected = model.generate(
        torch.tensor([request.prompt_ids]),
        max_new_tokens=request.max_new_tokens,
        eos_token_id=EOS,
        pad_token_id=0,
        do_sample=False,
    )[0, len(request.prompt_ids) :].tolist()
    engine = build_engine(*served("llama"), EngineConfig())
    found = run_alone(engine, request).tokens(request.request_id)
    assert found == (tuple(expected[: expected.index(EOS) + 1] if EOS in expected else expected),)


def test_a_penalty_changes_what_is_said():
    strategies = [Contrastive(penalty_alpha=alpha) for alpha in (0.0, 0.5, 0.99)]
    requests = requests_of(strategies, max_new_tokens=16)
    prompt_ids = requests[1].prompt_ids
    engine = build_engine(*served("llama"), EngineConfig())
    answers = {
        run_alone(engine, replace(request, prompt_ids=prompt_ids)).tokens(request.request_id)
        for request in requests
    }
    assert len(answers) > 1
