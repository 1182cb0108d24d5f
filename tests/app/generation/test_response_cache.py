"""The LRU of answers: its two bounds, its order, and an honest measure of memory."""

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.generation.cache import ResponseCache, size_of
from app.generation.cache_key import CacheKey, ModelIdentity
from tests.app.generation.shared_cache.answers import answer

MODEL = ModelIdentity(name="tiny", revision="1", runtime="torch")


def key(number, num_tokens=3):
    return CacheKey(
        keeps_stop=False,
        model=MODEL,
        prompt_ids=tuple(range(1000 * number, 1000 * number + num_tokens)),
        strategy="greedy",
        parameters=(("num_return_sequences", "1"),),
        max_new_tokens=5,
        stop=(),
        adjustments=(),
        grammar=None,
        guidance=None,
        top_logprobs=0,
        prompt_logprobs=None,
        trace=None,
        seed=None,
    )


def test_an_answer_is_found_under_its_key_and_no_other():
    cache = ResponseCache(max_entries=2, max_bytes=2**20)
    cache.put(key(1), answer("one"))
    assert cache.get(key(1)) == answer("one")
    assert cache.get(key(2)) is None


def test_the_least_recently_used_answer_goes_first():
    cache = ResponseCache(max_entries=2, max_bytes=2**20)
    cache.put(key(1), answer())
    cache.put(key(2), answer())
    cache.get(key(1))
    cache.put(key(3), answer())
    assert [cache.get(key(number)) is not None for number in (1, 2, 3)] == [True, False, True]


def test_an_answer_larger_than_the_cache_is_not_kept_and_costs_nobody_its_place():
    cache = ResponseCache(max_entries=10, max_bytes=5000)
    cache.put(key(1), answer())
    cache.put(key(2), answer("x" * 10_000))
    assert cache.get(key(1)) is not None
    assert cache.get(key(2)) is None


def test_a_newer_answer_takes_the_place_of_the_older():
    cache = ResponseCache(max_entries=10, max_bytes=2**20)
    cache.put(key(1), answer("x" * 1000))
    cache.put(key(1), answer("y"))
    assert cache.num_entries == 1
    assert cache.num_bytes < 3000


@pytest.mark.parametrize("bounds", [(0, 2**20), (10, 0)])
def test_a_cache_of_size_nothing_keeps_nothing(bounds):
    cache = ResponseCache(*bounds)
    cache.put(key(1), answer())
    assert (cache.num_entries, cache.num_bytes) == (0, 0)


@given(steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.booleans()), max_size=60))
def test_the_bounds_hold_and_the_bytes_add_up_whatever_happens(steps):
    cache = ResponseCache(max_entries=4, max_bytes=9000)
    for number, size, is_put in steps:
        if is_put:
            cache.put(key(number), answer("x" * 50 * size, num_tokens=size))
        else:
            cache.get(key(number))
        assert cache.num_entries <= 4
        assert 0 <= cache.num_bytes <= 9000
        assert (cache.num_entries == 0) == (cache.num_bytes == 0)


@pytest.mark.parametrize("num_tokens", [0, 10, 1000])
def test_the_measure_is_near_what_the_interpreter_allocates(num_tokens):
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [
            (key(number, num_tokens), answer("x" * 100 + str(number), num_tokens))
            for number in range(50)
        ]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    measured = sum(size_of(one) for entry in kept for one in entry)
    assert measured >= 0.9 * (after - before)
    assert measured <= 1.5 * (after - before) + 50 * 1200  # constants that entries share
