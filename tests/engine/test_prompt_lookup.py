"""What is guessed: the continuation of the newest longest match, by the definition."""

from hypothesis import given
from hypothesis import strategies as st

from engine.prompt_lookup import PromptLookup


def by_definition(ids: list[int], num_tokens: int, max_ngram_size: int) -> list[int]:
    for size in range(min(max_ngram_size, len(ids) - 1), 0, -1):
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == ids[len(ids) - size :]:
                following = ids[start + size :] * num_tokens  # a period goes on as it is
                return following[:num_tokens]
    return []


@given(
    ids=st.lists(st.integers(0, 3), max_size=30),
    num_tokens=st.integers(1, 6),
    max_ngram_size=st.integers(1, 5),
)
def test_the_guess_is_what_followed_the_newest_longest_match(
    ids: list[int], num_tokens: int, max_ngram_size: int
) -> None:
    lookup = PromptLookup(num_tokens=num_tokens, max_ngram_size=max_ngram_size)
    assert lookup.propose(ids, 100) == by_definition(ids, num_tokens, max_ngram_size)


def test_no_more_is_guessed_than_there_is_room_for() -> None:
    lookup = PromptLookup(num_tokens=5, max_ngram_size=2)
    assert lookup.propose([1, 2, 3, 4, 1], 2) == [2, 3]
    assert lookup.propose([1, 2, 3, 4, 1], 0) == []
    assert lookup.propose([1, 2, 3, 4, 1], -1) == []
