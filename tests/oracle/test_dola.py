"""DoLa against a plain loop over the model, and with everything that a request may ask for."""

from dataclasses import replace

import pytest
import torch

from decoding.adjustments import Adjustments
from decoding.beam import Beam
from decoding.dola import Dola
from decoding.sample import Sample
from engine.config import EngineConfig
from engine.messages import NegativePrompt
from engine.prompt_lookup import PromptLookup
from tests.oracle.architectures import build_model
from tests.oracle.dola_reference import dola_tokens
from tests.oracle.engine_run import run_alone, run_staggered
from tests.oracle.exam import served
from tests.oracle.serving import build_engine
from tests.oracle.workload import PLAIN, build_requests

ARCHITECTURES = ("llama", "llama-3-rope", "gpt-2", "gemma-2", "gemma-3", "mixtral", "granite")
EOS = 5
LOOKUP = PromptLookup(num_tokens=4, max_ngram_size=3)
STRATEGIES = (
    Dola(dola_layers=(0, 1, 2)),
    Dola(dola_layers="high"),
    Dola(dola_layers=(1, 2), relative_top=0.4),
    Dola(dola_layers=(2,), relative_top=0.02),
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request):
    return request.param


def requests_of(strategies, *, max_new_tokens=10):
    requests = build_requests(strategies, frozenset({EOS}), seed=3, max_new_tokens=max_new_tokens)
    return [replace(request, adjustments=PLAIN) for request in requests]


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
    assert not run.failed
    for request in requests:
        assert run.tokens(request.request_id) == (dola_tokens(model, request),)


def test_each_row_has_the_layer_that_is_furthest_from_its_last():
    model = build_model(*served("llama"))
    requests = requests_of([Dola(dola_layers=(0, 1, 2))] * 5, max_new_tokens=16)
    apart = [
        {
            dola_tokens(model, replace(each, strategy=Dola(dola_layers=(layer,))))
            for layer in range(3)
        }
        for each in requests
    ]
    assert all(len(answers) > 1 for answers in apart)  # so it matters which is chosen
    run = run_staggered(build_engine(*served("llama"), EngineConfig()), requests)
    for request in requests:
        assert run.tokens(request.request_id) == (dola_tokens(model, request),)


def test_a_repetition_penalty_weakens_contrasts_as_in_transformers():
    model = build_model(*served("llama"))
    requests = [
        replace(request, adjustments=Adjustments(repetition_penalty=1.2))
        for request in requests_of([Dola(dola_layers="high")] * 4, max_new_tokens=16)
    ]
    run = run_staggered(build_engine(*served("llama"), EngineConfig()), requests)
    for request in requests:
        expected = dola_tokens(model, request, penalty=1.2)
        assert run.tokens(request.request_id) == (expected,)


def test_draws_follow_the_contrast():
    """Filters come after it, so the likeliest of one is what is not drawn."""
    model = build_model(*served("llama"))
    (request,) = requests_of([Dola(dola_layers="high")])
    drawn = replace(
        request, strategy=Dola(dola_layers="high", do_sample=True, top_k=1, num_return_sequences=2)
    )
    engine = build_engine(*served("llama"), EngineConfig())
    expected = dola_tokens(model, request)
    assert run_alone(engine, drawn).tokens(request.request_id) == (expected, expected)
    free = replace(request, strategy=Dola(do_sample=True, temperature=2.0, num_return_sequences=3))
    first, *others = run_alone(engine, free).tokens(request.request_id)
    assert any(other != first for other in others)


def test_log_probabilities_are_the_models_own():
    model = build_model(*served("llama"))
    (request,) = requests_of([Dola(dola_layers="high")])
    engine = build_engine(*served("llama"), EngineConfig())
    (answer,) = run_alone(engine, request).finished[request.request_id].sequences
    ids = torch.tensor([[*request.prompt_ids, *answer.token_ids]])
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(ids).logits[0, len(request.prompt_ids) - 1 : -1], dim=1)
    expected = logprobs.gather(1, torch.tensor(answer.token_ids)[:, None]).flatten().tolist()
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)


def test_guidance_a_bias_and_guesses_go_with_it():
    """Guesses change nothing; guidance and a bias do, also what the model is sure not to say."""
    engine = build_engine(*served("llama"), EngineConfig())
    strategy = Dola(dola_layers=(0, 1, 2))
    (request,) = requests_of([strategy], max_new_tokens=24)
    request = replace(request, eos_token_ids=frozenset())
    plain = run_alone(engine, request).tokens(request.request_id)
    looked_up = replace(request, prompt_ids=request.prompt_ids + plain[0][:20], lookup=LOOKUP)
    alone = replace(looked_up, lookup=None)
    expected = run_alone(engine, alone).tokens(request.request_id)
    assert run_alone(engine, looked_up).tokens(request.request_id) == expected
    assert engine.stats().num_draft_tokens > 0
    guided = replace(request, guidance=NegativePrompt(prompt_ids=(9, 9, 9), scale=4.0))
    assert run_alone(engine, guided).tokens(request.request_id) != plain
    biased = replace(request, adjustments=Adjustments(logit_bias=((77, 100.0),)))
    assert set(run_alone(engine, biased).tokens(request.request_id)[0]) == {77}


def test_a_prefix_that_is_known_is_not_computed_again():
    engine = build_engine(*served("llama"), EngineConfig(block_size=4))
    request = requests_of([Dola(dola_layers="high")] * 11)[10]
    first = run_alone(engine, request).finished[request.request_id]
    again = run_alone(engine, request).finished[request.request_id]
    assert again.sequences == first.sequences
    assert again.timings.num_cached_tokens > 0
