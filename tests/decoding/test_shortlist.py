"""Drawing from a shortlist gives the tokens that drawing from the whole vocabulary gives."""

import pytest

from decoding import chooser
from decoding.ask import Draw
from decoding.chooser import RowAsk, find_candidates
from decoding.params import Processing
from decoding.processors.shortlist import MOST_KEPT, shortlist_kind
from tests.decoding.rows import FixedRow, random_logits

VOCAB_SIZE = 3000
PROCESSINGS = [
    Processing(top_k=1),
    Processing(top_k=50, top_p=0.95),
    Processing(top_k=50, temperature=0.3),
    Processing(top_k=7, temperature=2.5, min_p=0.05),
    Processing(top_k=MOST_KEPT, top_p=0.5, typical_p=0.9),
    Processing(top_p=0.6),
    Processing(top_p=0.95, temperature=1.7),
    Processing(min_p=0.05, xtc_probability=0.5, dynatemp_range=0.4),
    Processing(typical_p=0.4),
    Processing(typical_p=0.9, temperature=0.6, min_p=0.01),
    Processing(epsilon_cutoff=0.004),
    Processing(eta_cutoff=0.004, temperature=0.8),
    Processing(top_n_sigma=1.5, top_k=7),
    Processing(top_h=0.5),
    Processing(mirostat=1, mirostat_mu=6.0),
    Processing(mirostat=2, mirostat_mu=6.0, temperature=1.2),
]


def ask(processing, *, count=3):
    rows = [FixedRow(index=at, prompt_ids=(at, 5), generated_ids=(7,)) for at in range(6)]
    return [RowAsk(row, Draw(processing, seed, count)) for seed, row in enumerate(rows)]


def without_shortlist(monkeypatch, logits, asked):
    with monkeypatch.context() as patch:
        patch.setattr(chooser, "shortlist_kind", lambda _processing: None)
        return find_candidates(logits, asked)


def tokens(found):
    return [[candidate.token_id for candidate in row] for row in found]


@pytest.mark.parametrize("processing", PROCESSINGS, ids=str)
def test_tokens_are_those_of_the_whole_vocabulary(monkeypatch, processing):
    for seed in range(20):
        logits = random_logits(6, VOCAB_SIZE, seed=seed)
        found = find_candidates(logits, ask(processing))
        expected = without_shortlist(monkeypatch, logits, ask(processing))
        assert tokens(found) == tokens(expected)
        for row, expected_row in zip(found, expected, strict=True):
            for one, other in zip(row, expected_row, strict=True):
                assert one.logprob == other.logprob


def test_rows_of_many_equal_scores_draw_from_all_of_them(monkeypatch):
    logits = random_logits(6, VOCAB_SIZE)
    logits[2] = 0.0
    logits[4, ::3] = 9.0
    asked = ask(Processing(top_k=20))
    found = find_candidates(logits, asked)
    assert tokens(found) == tokens(without_shortlist(monkeypatch, logits, asked))
    assert max(max(row) for row in tokens(found)) > 100  # of the flat row, not its first twenty


def test_a_row_gets_the_same_bits_whatever_its_neighbours_do():
    logits = random_logits(6, VOCAB_SIZE)
    logits[2] = 0.0
    asked = ask(Processing(top_k=20, top_p=0.9))
    together = find_candidates(logits, asked)
    alone = [find_candidates(logits[at : at + 1], asked[at : at + 1])[0] for at in range(6)]
    assert together == alone


def test_rows_that_keep_many_tokens_have_no_shortlist():
    assert shortlist_kind(Processing()) is None
    assert shortlist_kind(Processing(temperature=0.5, dynatemp_range=0.1)) is None, "drops nothing"
    assert shortlist_kind(Processing(xtc_probability=0.5)) is None, "keeps the unlikely"
    assert shortlist_kind(Processing(top_p=0.9, dynatemp_range=0.5)) is None, "scaled by all tokens"
    assert shortlist_kind(Processing(top_k=9, samplers=("top_p", "top_k"))) is None, "another order"
    assert shortlist_kind(Processing(top_k=MOST_KEPT + 1)) is None
    assert shortlist_kind(Processing(top_k=MOST_KEPT)) is not None
