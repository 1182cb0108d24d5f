"""Adjustments against the processors of `transformers` and scalar references, row by row."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WatermarkLogitsProcessor,
)

from decoding.adjuster import compile_adjustments
from decoding.adjustments import NO_ADJUSTMENTS, Adjustments, Watermark
from decoding.base import Task
from decoding.processors.adjust import adjust
from tests.decoding.rows import FixedRow, random_logits

VOCAB_SIZE = 40  # small, so that sequences repeat
EOS = 3
TASK = Task(max_new_tokens=12, seed=0, eos_token_ids=frozenset({EOS, 11}))

IN_TRANSFORMERS: list[tuple[Adjustments, Callable[[int], list[LogitsProcessor]]]] = [
    (
        Adjustments(logit_bias=((4, 2.5), (9, -30.0))),
        lambda _: [SequenceBiasLogitsProcessor({(4,): 2.5, (9,): -30.0})],
    ),
    (Adjustments(repetition_penalty=1.7), lambda _: [RepetitionPenaltyLogitsProcessor(1.7)]),
    (Adjustments(repetition_penalty=0.6), lambda _: [RepetitionPenaltyLogitsProcessor(0.6)]),
    *(
        (
            Adjustments(no_repeat_ngram_size=size),
            lambda _, s=size: [NoRepeatNGramLogitsProcessor(s)],
        )
        for size in (1, 2, 3)
    ),
    (
        Adjustments(bad_words=((7,), (5, 6), (1, 2, 8))),
        lambda _: [NoBadWordsLogitsProcessor([[7], [5, 6], [1, 2, 8]], eos_token_id=EOS)],
    ),
    (
        Adjustments(min_new_tokens=4),
        lambda prompt: [MinNewTokensLengthLogitsProcessor(prompt, 4, [EOS, 11])],
    ),
    (Adjustments(suppress_tokens=(1, 30)), lambda _: [SuppressTokensLogitsProcessor([1, 30])]),
    (
        Adjustments(begin_suppress_tokens=(2, 31)),
        lambda prompt: [SuppressTokensAtBeginLogitsProcessor([2, 31], prompt)],
    ),
    (
        Adjustments(forced_eos_token_id=EOS),
        lambda prompt: [ForcedEOSTokenLogitsProcessor(prompt + 12, EOS)],
    ),
    (
        Adjustments(watermark=Watermark(greenlist_ratio=0.4, bias=1.5, hashing_key=17)),
        lambda _: [WatermarkLogitsProcessor(VOCAB_SIZE, "cpu", 0.4, 1.5, 17)],
    ),
    (
        Adjustments(
            logit_bias=((4, 2.5),),
            repetition_penalty=1.2,
            no_repeat_ngram_size=2,
            bad_words=((7,),),
        ),
        lambda _: [
            SequenceBiasLogitsProcessor({(4,): 2.5}),
            RepetitionPenaltyLogitsProcessor(1.2),
            NoRepeatNGramLogitsProcessor(2),
            NoBadWordsLogitsProcessor([[7]], eos_token_id=EOS),
        ],
    ),
]


def rows_of(seed: int, count: int) -> list[FixedRow]:
    """Rows of different lengths, some of which have generated nothing yet."""
    generator = torch.Generator().manual_seed(seed)

    def ids(most: int, least: int) -> tuple[int, ...]:
        length = int(torch.randint(least, most, (1,), generator=generator))
        return tuple(torch.randint(VOCAB_SIZE, (length,), generator=generator).tolist())

    return [
        FixedRow(index=at, prompt_ids=ids(30, 1), generated_ids=ids(13, 0)) for at in range(count)
    ]


def adjusted(scores: Tensor, rows: Sequence[FixedRow], asked: Sequence[Adjustments]) -> Tensor:
    return adjust(scores, rows, [compile_adjustments(each, TASK) for each in asked])


@pytest.mark.parametrize(
    ("asked", "build"),
    IN_TRANSFORMERS,
    ids=lambda part: str(part) if isinstance(part, Adjustments) else "so",
)
def test_each_adjustment_gives_what_transformers_gives(
    asked: Adjustments, build: Callable[[int], list[LogitsProcessor]]
) -> None:
    rows, scores = rows_of(1, 60), random_logits(60, VOCAB_SIZE)
    ours = adjusted(scores, rows, [asked] * 60)
    assert not torch.equal(ours, scores), "no row shows the effect"
    for at, row in enumerate(rows):
        reference = LogitsProcessorList(build(len(row.prompt_ids)))
        expected = reference(torch.tensor([row.token_ids]), scores[at : at + 1].clone())
        torch.testing.assert_close(ours[at], expected[0], rtol=1e-6, atol=1e-6)


def test_the_first_token_can_be_forced_as_transformers_does_after_a_prompt_of_one() -> None:
    scores = random_logits(2, VOCAB_SIZE)
    rows = [FixedRow(prompt_ids=(5,)), FixedRow(prompt_ids=(5,), generated_ids=(8,))]
    ours = adjusted(scores, rows, [Adjustments(forced_bos_token_id=8)] * 2)
    reference = ForcedBOSTokenLogitsProcessor(8)
    for at, row in enumerate(rows):
        expected = reference(torch.tensor([row.token_ids]), scores[at : at + 1].clone())
        assert torch.equal(ours[at], expected[0])


def test_presence_and_frequency_count_generated_tokens_only() -> None:
    rows, scores = rows_of(2, 30), random_logits(30, VOCAB_SIZE)
    asked = Adjustments(presence_penalty=0.7, frequency_penalty=-0.3)
    ours = adjusted(scores, rows, [asked] * 30)
    for at, row in enumerate(rows):
        for token_id in range(VOCAB_SIZE):
            count = row.generated_ids.count(token_id)
            lost = 0.7 * (count > 0) - 0.3 * count
            expected = scores[at, token_id].item() - lost
            assert ours[at, token_id].item() == pytest.approx(expected, abs=1e-5)


def dry_by_definition(ids: Sequence[int], asked: Adjustments) -> dict[int, float]:
    """Every earlier place, every length: the longest repetition that each token would prolong."""
    if asked.dry_penalty_last_n >= 0:
        ids = ids[len(ids) - min(len(ids), asked.dry_penalty_last_n) :]
    longest: dict[int, int] = {}
    for length in range(1, len(ids)):
        tail = ids[len(ids) - length :]
        if asked.dry_breaker_ids & set(tail):
            break
        for start in range(len(ids) - length):
            following = ids[start + length]
            if ids[start : start + length] == tail and following not in asked.dry_breaker_ids:
                longest[following] = length
    return {
        token_id: asked.dry_multiplier * asked.dry_base ** (length - asked.dry_allowed_length)
        for token_id, length in longest.items()
        if length >= asked.dry_allowed_length
    }


@settings(max_examples=200)
@given(
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    allowed=st.integers(1, 4),
    last_n=st.sampled_from([-1, 0, 1, 7, 20]),
    breakers=st.frozensets(st.integers(0, 4), max_size=2),
)
def test_dry_penalises_the_tokens_that_prolong_a_repetition(
    ids: list[int], allowed: int, last_n: int, breakers: frozenset[int]
) -> None:
    asked = Adjustments(
        dry_multiplier=0.8,
        dry_base=1.75,
        dry_allowed_length=allowed,
        dry_penalty_last_n=last_n,
        dry_breaker_ids=breakers,
    )
    scores = random_logits(1, VOCAB_SIZE)
    row = FixedRow(prompt_ids=tuple(ids[:3]), generated_ids=tuple(ids[3:]))
    lost = scores - adjusted(scores, [row], [asked])
    expected = dry_by_definition(ids, asked)
    for token_id in range(VOCAB_SIZE):
        assert lost[0, token_id].item() == pytest.approx(expected.get(token_id, 0.0), rel=1e-4)


def test_a_long_repetition_leaves_scores_finite() -> None:
    row = FixedRow(prompt_ids=(7,) * 5000)
    asked = Adjustments(dry_multiplier=100.0, dry_base=10.0)
    scores = adjusted(random_logits(1, VOCAB_SIZE), [row], [asked])
    assert scores.isfinite().all()
    assert scores[0, 7] < -1e20


@settings(max_examples=60)
@given(
    batch=st.lists(
        st.sampled_from([NO_ADJUSTMENTS, *(asked for asked, _ in IN_TRANSFORMERS)]),
        min_size=2,
        max_size=10,
    ),
    seed=st.integers(0, 1000),
)
def test_a_row_is_adjusted_the_same_alone_and_in_a_batch(
    batch: list[Adjustments], seed: int
) -> None:
    rows, scores = rows_of(seed, len(batch)), random_logits(len(batch), VOCAB_SIZE, seed=seed)
    before = scores.clone()
    together = adjusted(scores, rows, batch)
    assert torch.equal(scores, before)
    for at, asked in enumerate(batch):
        alone = adjusted(scores[at : at + 1], rows[at : at + 1], [asked])
        assert torch.equal(together[at], alone[0])


def test_nothing_asked_for_compiles_to_nothing() -> None:
    assert compile_adjustments(NO_ADJUSTMENTS, TASK) is None
    no_end = Task(max_new_tokens=3, seed=0)
    assert compile_adjustments(Adjustments(min_new_tokens=2), no_end) is None
    assert compile_adjustments(Adjustments(dry_base=3.0), TASK) is None


@pytest.mark.parametrize("wrong", [{"repetition_penalty": 0.0}, {"bad_words": ((),)}], ids=str)
def test_adjustments_that_cannot_be_made_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Adjustments(**wrong)


def test_a_penalty_is_never_infinite() -> None:
    assert math.isfinite(dry_by_definition([1] * 9, Adjustments(dry_multiplier=1.0))[1])
