"""The edges of what a request may be: a full context, one token, many end tokens, many beams."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from decoding.base import Strategy
from decoding.beam import Beam
from decoding.greedy import Greedy
from engine.config import EngineConfig
from engine.errors import RequestTooLarge
from engine.messages import GenerationRequest
from tests.oracle.architectures import CONTEXT_LENGTH, VOCAB_SIZE, Architecture
from tests.oracle.engine_run import EngineRun, run_staggered
from tests.oracle.exam import served, set_exam_of
from tests.oracle.serving import build_engine
from tests.oracle.workload import build_requests, random_ids

CONFIG = EngineConfig(max_rows=24, max_step_tokens=32, block_size=8)
ARCHITECTURES = served("llama", "gemma-2", "gpt-2", "opt")  # rotary and learned positions


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=str)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return request.param


def check(architecture: Architecture, requests: Sequence[GenerationRequest]) -> None:
    exam = set_exam_of(architecture, requests)
    exam.check(run_staggered(build_engine(architecture, CONFIG), requests))


def test_prompt_and_answer_may_fill_the_context_to_its_last_token(
    architecture: Architecture,
) -> None:
    strategies: list[Strategy] = [Greedy(), Beam(num_beams=2), Greedy(), Beam(num_beams=3)]
    generator = torch.Generator().manual_seed(12)
    lengths = (CONTEXT_LENGTH - 1, CONTEXT_LENGTH - 9, CONTEXT_LENGTH - 14, CONTEXT_LENGTH - 2)
    requests = [
        replace(
            request,
            prompt_ids=random_ids(length, generator),
            max_new_tokens=CONTEXT_LENGTH - length,
        )
        for request, length in zip(build_requests(strategies, frozenset()), lengths, strict=True)
    ]
    check(architecture, requests)


def test_one_token_beyond_the_context_is_refused_with_the_numbers(
    architecture: Architecture,
) -> None:
    run = EngineRun(build_engine(architecture, CONFIG))
    (request,) = build_requests([Greedy()], frozenset(), max_new_tokens=CONTEXT_LENGTH)
    with pytest.raises(RequestTooLarge, match=rf"{CONTEXT_LENGTH}.*{CONTEXT_LENGTH}"):
        run.submit(request)


def test_beams_equal_transformers_under_many_end_tokens(architecture: Architecture) -> None:
    eos_token_ids = frozenset(range(10, VOCAB_SIZE, 9))
    strategies = [
        Beam(num_beams=num_beams, early_stopping=early_stopping, num_return_sequences=num_beams)
        for num_beams in (1, 2, 5)
        for early_stopping in (False, True, "never")
    ]
    check(architecture, build_requests(strategies, eos_token_ids, seed=3))


def test_as_many_beams_as_a_step_has_rows_equal_transformers(architecture: Architecture) -> None:
    strategies = [Beam(num_beams=24, num_return_sequences=24), Greedy(), Beam(num_beams=20)]
    check(architecture, build_requests(strategies, frozenset({40, 41}), seed=2))
