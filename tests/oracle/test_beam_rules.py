"""The rules of beam search, where they matter: end tokens so common that searches end by them.

The other suites run beams among many things; here every search meets many end tokens, so that when
to give up (`early_stopping`), what a length is worth and which beams go on decide the answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import pytest

from decoding.beam import Beam
from engine.config import EngineConfig
from engine.messages import GenerationRequest
from tests.oracle.architectures import VOCAB_SIZE
from tests.oracle.engine_run import run_staggered
from tests.oracle.exam import Exam, served, set_exam_of
from tests.oracle.serving import build_engine
from tests.oracle.workload import build_prompts, build_requests

LENGTH_PENALTIES = (0.0, 0.6, 1.0, 2.0, -1.0)
EARLY_STOPPINGS = (False, True, "never")
PROMPTS = build_prompts(8, seed=21)
END_TOKENS = {
    "some": frozenset(range(3, VOCAB_SIZE, 12)),
    "half": frozenset(range(3, VOCAB_SIZE, 2)),
}


def build_grid(eos_token_ids: frozenset[int]) -> Iterator[GenerationRequest]:
    """Every prompt under every rule, with 2 to 4 beams."""
    for at, (prompt_ids, length_penalty, early_stopping) in enumerate(
        product(PROMPTS, LENGTH_PENALTIES, EARLY_STOPPINGS)
    ):
        num_beams = 2 + at // len(EARLY_STOPPINGS) % 3
        beam = Beam(
            num_beams=num_beams,
            num_return_sequences=num_beams,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        (request,) = build_requests([beam], eos_token_ids, max_new_tokens=20)
        yield replace(request, request_id=str(at), prompt_ids=prompt_ids)


@pytest.fixture(scope="module")
def exams() -> Mapping[str, Exam]:
    (llama,) = served("llama")
    return {
        name: set_exam_of(llama, list(build_grid(eos_token_ids)))
        for name, eos_token_ids in END_TOKENS.items()
    }


@pytest.mark.parametrize("name", END_TOKENS)
def test_every_rule_gives_the_answer_of_transformers(exams: Mapping[str, Exam], name: str) -> None:
    exam = exams[name]
    engine = build_engine(exam.architecture, EngineConfig(block_size=8))
    exam.check(run_staggered(engine, exam.requests, arriving_together=12))


def test_a_stop_check_ends_beams_as_a_stopping_criterion_does() -> None:
    (llama,) = served("llama")
    stops = [
        replace(request, stop=lambda generated_ids: sum(generated_ids[-2:]) % 5 == 0)
        for request in build_grid(END_TOKENS["some"])
    ]
    exam = set_exam_of(llama, stops[::4])
    engine = build_engine(llama, EngineConfig(block_size=8))
    exam.check(run_staggered(engine, exam.requests))


def test_each_setting_of_early_stopping_decides_some_answer(exams: Mapping[str, Exam]) -> None:
    exam = exams["some"]
    answers = [exam.references[request.request_id].token_ids for request in exam.requests]
    alike = len(EARLY_STOPPINGS)
    by_rule = [answers[at : at + alike] for at in range(0, len(answers), alike)]
    assert any(heuristic != at_first for heuristic, at_first, _ in by_rule)
    assert any(heuristic != exact for heuristic, _, exact in by_rule)
