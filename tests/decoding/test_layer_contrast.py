"""The contrast of layers: which layer, which scores, which tokens, and who is asked for."""

import math

import pytest
import torch

from decoding.adjuster import compile_adjustments
from decoding.adjustments import Adjustments
from decoding.ask import MostLikely
from decoding.base import ModelDepth, Task
from decoding.chooser import RowAsk, find_candidates
from decoding.dola import Dola, candidate_layers
from decoding.errors import InvalidParameter
from decoding.logits import EarlyExits, Logits
from decoding.params import LayerContrast, Processing
from decoding.processors import layer_contrast
from decoding.processors.layer_contrast import premature_logprobs
from tests.decoding.rows import FixedRow, random_logits

WIDTH, VOCAB = 5, 40


@pytest.fixture
def early():
    """States of four rows after three layers, and a head."""
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(WIDTH, VOCAB, generator=generator)
    return EarlyExits(
        states={layer: torch.randn(4, WIDTH, generator=generator) for layer in range(3)},
        head=lambda states: Logits(  # row by row: a product of many rounds otherwise than of one
            torch.stack([(state[:, None] * matrix).sum(dim=0) for state in states])
        ),
        places={0: 0, 1: 1, 2: 2, 3: 3},
    )


def contrast(*layers, relative_top=0.1):
    return LayerContrast(layers=layers, relative_top=relative_top)


def distance(one, other):
    mean = (one.exp() + other.exp()) / 2
    return sum(float((mean * (mean.log() - each)).sum()) for each in (one, other)) / 2


def test_each_row_is_contrasted_with_the_layer_furthest_from_its_last(early):
    logits = random_logits(4, VOCAB)
    found = premature_logprobs(logits, [contrast(0, 1, 2)] * 4, early)
    for row, chosen in enumerate(found):
        last = torch.log_softmax(logits[row].double(), dim=0)
        options = [
            torch.log_softmax(
                early.head(early.states[layer][row : row + 1]).values[0].double(), dim=0
            )
            for layer in range(3)
        ]
        best = max(options, key=lambda option: distance(last, option))
        torch.testing.assert_close(chosen.double(), best, atol=1e-5, rtol=1e-5)


def test_rows_get_the_same_bits_in_parts_and_among_others(early, monkeypatch):
    logits = random_logits(4, VOCAB)
    asked = [contrast(0, 1, 2), None, contrast(1), contrast(0, 1, 2)]
    together = premature_logprobs(logits, asked, early)
    monkeypatch.setattr(layer_contrast, "_MOST_AT_ONCE", 1)
    apart = premature_logprobs(logits, asked, early)
    assert together[1] is apart[1] is None
    for row in (0, 2, 3):
        alone = premature_logprobs(logits[row : row + 1], [asked[row]], early.of_rows([row]))
        assert torch.equal(together[row], apart[row])
        assert torch.equal(together[row], alone[0])


def find(logits, premature, adjustments=None, relative_top=0.1):
    ask = MostLikely(Processing(contrast=contrast(0, relative_top=relative_top)))
    task = Task(max_new_tokens=9, seed=0)
    adjuster = compile_adjustments(adjustments, task) if adjustments else None
    entry = RowAsk(FixedRow(prompt_ids=(1,)), ask, adjuster, premature=premature)
    ((found,),) = find_candidates(logits[None], [entry])
    return found


def test_the_best_contrast_wins_among_what_is_plausible():
    last = torch.log(torch.tensor([0.50, 0.30, 0.15, 0.05]))
    early = torch.log(torch.tensor([0.60, 0.25, 0.10, 0.0001]))
    found = find(last, early)
    assert found.token_id == 3  # 0.05 is exactly a tenth of the best, and rose the most
    found = find(last, early, relative_top=0.2)
    assert found.token_id == 2
    assert found.score == pytest.approx(math.log(0.15 / 0.10), abs=1e-5)
    assert found.logprob == pytest.approx(math.log(0.15), abs=1e-5)


@pytest.mark.parametrize(
    "adjustments",
    [Adjustments(suppress_tokens=(0,)), Adjustments(logit_bias=((0, -100.0),))],
    ids=["banned", "biased"],
)
def test_what_is_plausible_is_measured_by_what_is_allowed(adjustments):
    last = torch.log(torch.tensor([0.98, 0.009, 0.0101, 0.0009]))
    early = torch.log(torch.tensor([0.90, 0.03, 0.05, 0.02]))
    assert find(last, early).token_id == 0
    assert find(last, early, adjustments).token_id in (1, 2)


def test_layers_that_overflow_are_not_chosen_and_a_row_of_them_has_no_candidates(early):
    early.states[1][0] = torch.inf
    logits = random_logits(4, VOCAB)
    chosen, *_ = premature_logprobs(logits, [contrast(0, 1)] * 4, early)
    assert chosen.isfinite().all()
    (only,) = premature_logprobs(logits[:1], [contrast(1)], early)
    ask = MostLikely(Processing(contrast=contrast(1)))
    rows = [FixedRow(prompt_ids=(1,)) for _ in range(2)]
    entries = [RowAsk(rows[0], ask, premature=only), RowAsk(rows[1], ask, premature=chosen)]
    broken, sound = find_candidates(logits[:1].expand(2, -1), entries)
    assert broken == ()
    assert len(sound) == 1


@pytest.mark.parametrize(
    ("asked", "num_layers", "is_tied", "expected"),
    [
        ("low", 32, False, tuple(range(0, 16, 2))),
        ("high", 32, False, tuple(range(16, 32, 2))),
        ("low", 30, True, (2, 4, 6, 8, 10, 12, 14)),
        ("high", 30, True, tuple(range(15, 30, 2))),
        ("low", 80, False, tuple(range(0, 20, 2))),
        ("high", 80, True, tuple(range(60, 80, 2))),
        ("low", 4, True, (2,)),
        ("low", 2, True, (1,)),
        ("low", 1, True, (0,)),
        ((5, 0), 6, True, (5, 0)),
    ],
)
def test_layers_are_those_of_transformers(asked, num_layers, is_tied, expected):
    depth = ModelDepth(num_layers=num_layers, has_tied_embeddings=is_tied)
    assert candidate_layers(asked, depth) == expected


@pytest.mark.parametrize(
    ("asked", "num_layers", "reason"),
    [((6,), 6, "6 is not below"), ("low", 3, "none to spare")],
)
def test_layers_that_the_model_lacks_are_refused(asked, num_layers, reason):
    depth = ModelDepth(num_layers=num_layers, has_tied_embeddings=True)
    with pytest.raises(InvalidParameter, match=reason) as refused:
        Dola(dola_layers=asked).check_task(Task(max_new_tokens=1, seed=0, depth=depth))
    assert refused.value.field == "dola_layers"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"dola_layers": (1, 1)}, "dola_layers"),
    ],
)
def test_what_would_be_without_effect_is_refused(fields, field):
    with pytest.raises(InvalidParameter) as refused:
        Dola(**fields)
    assert refused.value.field == field


def test_a_runtime_that_tells_nothing_of_layers_is_named():
    with pytest.raises(InvalidParameter, match=r"dola .* use another strategy"):
        Dola().start(Task(max_new_tokens=1, seed=0))
