"""Which architectures load, which are refused, and that the tiny models are fit to tell."""

from dataclasses import replace

import pytest
import torch

from decoding.beam import Beam
from decoding.greedy import Greedy
from engine.config import EngineConfig
from engine.errors import RequestTooLarge, UnsupportedModel
from tests.oracle.architectures import (
    ORIGINAL_CONTEXT_LENGTH,
    SERVED,
    VOCAB_SIZE,
    WINDOW,
    Architecture,
    build_model,
)
from tests.oracle.engine_run import run_staggered
from tests.oracle.reference import describe_difference, generate_reference
from tests.oracle.refused_architectures import REFUSED, SHORTENED
from tests.oracle.serving import build_engine
from tests.oracle.workload import build_prompts, build_requests


@pytest.mark.parametrize("architecture", REFUSED, ids=str)
def test_a_model_that_would_come_out_wrong_is_refused_with_the_reason(
    architecture: Architecture,
) -> None:
    with pytest.raises(UnsupportedModel, match=r"\w+ \w+ \w+"):
        build_engine(architecture, EngineConfig())


@pytest.mark.parametrize("architecture", SHORTENED, ids=str)
def test_stretched_positions_are_served_within_the_original_context(
    architecture: Architecture,
) -> None:
    strategies = [Greedy(), Beam(num_beams=3), Greedy(), Beam(num_beams=2, length_penalty=0.0)]
    requests = [
        replace(request, max_new_tokens=ORIGINAL_CONTEXT_LENGTH - len(request.prompt_ids))
        for request in build_requests(strategies, frozenset())
    ]
    engine = build_engine(architecture, EngineConfig())
    run = run_staggered(engine, requests, arriving_together=1)
    model = build_model(architecture)
    for request in requests:
        answer, reference = run.finished[request.request_id], generate_reference(model, request)
        assert describe_difference(request, answer, reference) is None
    assert engine.limits.context_length == ORIGINAL_CONTEXT_LENGTH
    with pytest.raises(RequestTooLarge, match=str(ORIGINAL_CONTEXT_LENGTH)):
        run.submit(replace(requests[0], request_id="long", max_new_tokens=40))


@pytest.mark.parametrize("architecture", SERVED, ids=str)
def test_logits_of_a_tiny_model_are_neither_flat_nor_tied(architecture: Architecture) -> None:
    model = build_model(architecture)
    with torch.inference_mode():
        for prompt_ids in build_prompts(6, seed=3):
            best, second = model(torch.tensor([prompt_ids])).logits[0, -1].topk(2).values.tolist()
            assert best - second > 1e-4
            assert best > 2.0


@pytest.mark.parametrize(
    "architecture", [one for one in SERVED if one.options.get("sliding_window")], ids=str
)
def test_a_window_hides_tokens_that_full_attention_would_see(architecture: Architecture) -> None:
    windowed = build_model(architecture)
    wide = build_model(replace(architecture, options=_with_wide_window(architecture)))
    far = torch.tensor([max(build_prompts(11), key=len)])
    near = far[:, :WINDOW]
    with torch.inference_mode():
        assert torch.allclose(windowed(near).logits, wide(near).logits, atol=1e-4)
        assert not torch.allclose(windowed(far).logits, wide(far).logits, atol=0.1)


def _with_wide_window(architecture: Architecture) -> dict[str, object]:
    return {**architecture.options, "sliding_window": VOCAB_SIZE}
