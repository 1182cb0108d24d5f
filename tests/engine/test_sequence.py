"""Sequences and groups: token ranges, what is left to compute, forks that share nothing."""

from itertools import combinations

import pytest

from engine.sequence import Group, Sequence, first_row, fork, num_reserved
from tests.engine.hash_runner import build_request
from tests.engine.shuffle import Shuffle


def _sequence(num_prompt: int, num_generated: int, num_computed: int = 0) -> Sequence:
    return Sequence(
        id=0,
        prompt_ids=tuple(range(num_prompt)),
        generated_ids=list(range(100, 100 + num_generated)),
        logprobs=[-1.0] * num_generated,
        num_computed=num_computed,
    )


def _group(width: int, rows: list[Sequence]) -> Group:
    request = build_request(strategy=Shuffle(width=width))
    return Group(
        request=request, decoder=None, ask=None, order=(0.0, 0), submitted_at=0.0, rows=rows
    )


@pytest.mark.parametrize(("start", "end"), [*combinations(range(8), 2)])
def test_a_range_of_tokens_is_a_slice_of_prompt_and_generated(start: int, end: int) -> None:
    sequence = _sequence(4, 3)
    assert sequence.tokens_between(start, end) == sequence.token_ids[start:end]


def test_counts_follow_prompt_and_generated_tokens() -> None:
    sequence = _sequence(4, 3, num_computed=5)
    assert sequence.token_ids == [0, 1, 2, 3, 100, 101, 102]
    assert sequence.num_tokens == 7
    assert sequence.num_remaining == 2


def test_a_fork_grows_apart_from_its_parent() -> None:
    parent = _sequence(2, 1, num_computed=3)
    child = fork(parent, 9)
    child.generated_ids.append(7)
    child.logprobs.append(-2.0)
    assert (child.id, child.num_computed, child.index) == (9, 3, parent.index)
    assert child.token_ids == [0, 1, 100, 7]
    assert parent.token_ids == [0, 1, 100]
    assert parent.logprobs == [-1.0]


def test_a_group_decodes_when_every_row_misses_only_its_newest_token() -> None:
    ready, behind = _sequence(4, 1, num_computed=4), _sequence(4, 2, num_computed=3)
    assert _group(2, [ready]).is_decoding
    both = _group(2, [ready, behind])
    assert not both.is_decoding
    assert both.num_remaining == 4


def test_a_group_starts_with_one_row_of_the_whole_prompt() -> None:
    request = build_request(prompt_ids=(5, 6))
    (row,) = first_row(request, iter([3]))
    assert (row.id, row.token_ids, row.index, row.num_computed) == (3, [5, 6], 0, 0)


def test_reserved_rows_are_those_announced_not_those_in_use() -> None:
    groups = [_group(3, [_sequence(1, 0)]), _group(2, [_sequence(1, 0)])]
    assert num_reserved(groups) == 5
    assert num_reserved([]) == 0
