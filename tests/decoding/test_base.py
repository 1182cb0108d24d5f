"""Why a sequence ends, and which reason wins when there are several."""

from collections.abc import Sequence

import pytest

from decoding.base import FinishReason, Task


def _ends_with_nine(generated_ids: Sequence[int]) -> bool:
    return generated_ids[-1] == 9


@pytest.mark.parametrize(
    ("generated_ids", "reason"),
    [
        ((1,), None),
        ((1, 2), None),
        ((1, 2, 3), FinishReason.LENGTH),
        ((0,), FinishReason.EOS),
        ((9,), FinishReason.STOP),
        ((1, 2, 0), FinishReason.EOS),
        ((1, 2, 9), FinishReason.STOP),
    ],
)
def test_an_end_token_comes_before_a_stop_and_a_stop_before_the_length(
    generated_ids: tuple[int, ...], reason: FinishReason | None
) -> None:
    task = Task(max_new_tokens=3, seed=0, eos_token_ids=frozenset({0}), stop=_ends_with_nine)
    assert task.finish_reason(generated_ids) is reason


def test_only_the_newest_token_can_be_an_end_token() -> None:
    task = Task(max_new_tokens=9, seed=0, eos_token_ids=frozenset({0, 5}))
    assert task.finish_reason((0, 5, 1)) is None
    assert task.finish_reason((1, 1, 5)) is FinishReason.EOS


def test_reasons_are_plain_words_on_the_wire() -> None:
    assert [str(reason) for reason in FinishReason] == ["eos", "stop", "length", "timeout"]
