"""What might have followed a row: against the definition, and against what was chosen."""

import math

import numpy as np
import pytest
import torch

from decoding.adjuster import compile_adjustments
from decoding.adjustments import Adjustments
from decoding.ask import Ask, Best, Draw, DrawDistinct, MostLikely
from decoding.base import Task
from decoding.chooser import RowAsk, find_candidates
from decoding.considered import Considered
from decoding.params import Processing
from decoding.processors.guidance import Guidance
from decoding.tracing import consider
from tests.decoding.rows import FixedRow, random_logits

VOCAB = 50
ROW = FixedRow(generated_ids=(3, 4))
NARROW = Processing(temperature=0.7, top_p=0.6)


def one(logits: torch.Tensor, entry: RowAsk, count: int = VOCAB) -> dict[int, Considered]:
    found = find_candidates(logits, [entry])
    (outlook,) = consider(logits, [entry], found, count)
    return {each.token_id: each for each in outlook.candidates}


def test_probabilities_are_those_of_temperature_and_top_p() -> None:
    logits = random_logits(1, VOCAB, seed=1)
    considered = one(logits, RowAsk(ROW, Draw(NARROW, seed=1)))
    assert len(considered) == VOCAB
    plain, warm = logits[0].double().softmax(0), (logits[0].double() / 0.7).softmax(0)
    best = warm.argsort(descending=True)
    nucleus = best[: int((warm[best].cumsum(0) < 0.6).sum()) + 1].tolist()
    total = warm[nucleus].sum()
    assert 1 < len(nucleus) < VOCAB
    for token_id, each in considered.items():
        assert math.exp(each.logprob) == pytest.approx(plain[token_id].item(), rel=1e-4)
        expected = warm[token_id] / total if token_id in nucleus else 0.0
        assert math.exp(each.processed_logprob) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    "ask",
    [
        MostLikely(Processing()),
        Draw(NARROW, seed=1, count=3),
        Draw(Processing(top_k=5), seed=2),
        Best(Processing(), count=6, also=(7,)),
        DrawDistinct(NARROW, seed=1, count=4),
    ],
    ids=lambda ask: type(ask).__name__,
)
@pytest.mark.parametrize("count", [1, 4, 20])
def test_it_agrees_with_what_was_chosen(ask: Ask, count: int) -> None:
    logits = random_logits(1, VOCAB, seed=2)
    adjuster = compile_adjustments(
        Adjustments(logit_bias=((9, 4.0),), repetition_penalty=1.3, suppress_tokens=(8,)),
        Task(max_new_tokens=9, seed=0),
    )
    guidance = Guidance(2.0, random_logits(1, VOCAB, seed=3)[0])
    entry = RowAsk(ROW, ask, adjuster, guidance=guidance)
    (found,) = find_candidates(logits, [entry])
    considered = one(logits, entry, count)
    for candidate in found:
        each = considered[candidate.token_id]
        assert each.logprob == pytest.approx(candidate.logprob, abs=1e-5)
        if isinstance(ask, Best | DrawDistinct):
            assert each.score == pytest.approx(candidate.score, abs=1e-5)
        elif isinstance(ask, Draw):
            assert each.processed_logprob == pytest.approx(candidate.score, abs=1e-5)
    likely = [each for each in considered.values() if each.is_likely]
    assert count <= len(likely) <= 2 * count
    assert sum(math.exp(each.processed_logprob) for each in considered.values()) <= 1 + 1e-5
    assert {each.token_id for each in likely} >= set(logits[0].topk(count).indices.tolist())


def test_what_a_grammar_forbids_is_dropped_and_shown_if_it_was_likely() -> None:
    logits = random_logits(1, VOCAB, seed=4)
    best = logits[0].argsort(descending=True).tolist()
    allowed = np.zeros(2, np.uint32)
    for token_id in best[1:3]:
        allowed[token_id // 32] |= np.uint32(1 << token_id % 32)
    considered = one(logits, RowAsk(ROW, Draw(Processing(), seed=1), allowed=allowed), count=4)
    assert list(considered) == [best[1], best[2], best[0], best[3]]
    assert considered[best[0]].processed_logprob == -math.inf
    shares = [math.exp(considered[token_id].processed_logprob) for token_id in best[1:3]]
    assert sum(shares) == pytest.approx(1.0)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = random_logits(4, VOCAB, seed=5)
    asked = [
        RowAsk(ROW, Best(Processing(), count=9)),
        RowAsk(FixedRow(index=2), Draw(NARROW, seed=1)),
        RowAsk(ROW, MostLikely(Processing())),
        RowAsk(ROW, DrawDistinct(Processing(top_k=2), seed=1, count=4)),
    ]
    found = find_candidates(logits, asked)
    together = consider(logits, asked, found, 3)
    for at in range(4):
        here = slice(at, at + 1)
        assert consider(logits[here], asked[here], found[here], 3) == [together[at]]
